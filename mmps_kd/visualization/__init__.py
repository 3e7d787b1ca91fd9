"""Visualization of annotations, detections, rankings and distillation."""

from .draw import draw_detections, draw_ground_truth, join_panels
from .ranking import MissedPicture, RankingPicture, draw_ranking
from .visualizer import PersonSearchVisualizer, in_pixels_of

__all__ = [
    'MissedPicture',
    'PersonSearchVisualizer',
    'RankingPicture',
    'draw_detections',
    'draw_ground_truth',
    'draw_ranking',
    'in_pixels_of',
    'join_panels',
]
