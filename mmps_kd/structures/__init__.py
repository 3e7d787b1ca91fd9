"""What data sets, models and evaluation share."""

from .annotations import UNLABELLED, Annotations, corners, name_in_folder, near_files, near_name
from .evaluation_data import (
    EvaluationSet,
    GroundTruth,
    PairResults,
    QueryContext,
    RankedBoxes,
    SearchProtocol,
    SearchResults,
    SearchScores,
    expand_runs,
    intersection_areas,
    paired_iou,
    run_offsets,
)

__all__ = [
    'UNLABELLED',
    'Annotations',
    'EvaluationSet',
    'GroundTruth',
    'PairResults',
    'QueryContext',
    'RankedBoxes',
    'SearchProtocol',
    'SearchResults',
    'SearchScores',
    'corners',
    'expand_runs',
    'intersection_areas',
    'name_in_folder',
    'near_files',
    'near_name',
    'paired_iou',
    'run_offsets',
]
