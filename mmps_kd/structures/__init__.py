"""What data sets, models and evaluation share."""

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
    'EvaluationSet',
    'GroundTruth',
    'PairResults',
    'QueryContext',
    'RankedBoxes',
    'SearchProtocol',
    'SearchResults',
    'SearchScores',
    'expand_runs',
    'intersection_areas',
    'paired_iou',
    'run_offsets',
]
