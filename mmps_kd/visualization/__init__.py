"""Pictures of person search."""

from .people import join_panels
from .ranking import MissedPicture, RankingPicture, draw_ranking
from .scene import draw_detections, draw_ground_truth
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
