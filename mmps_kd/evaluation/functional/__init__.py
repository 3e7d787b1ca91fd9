"""The rules of person-search evaluation, in NumPy and SciPy alone."""

from mmps_kd.structures import (
    EvaluationSet,
    GroundTruth,
    PairResults,
    QueryContext,
    RankedBoxes,
    SearchProtocol,
    SearchResults,
    SearchScores,
)

from .cbgm import CBGM
from .curves import mean_precision_at_recall
from .detection import DetectionScores, evaluate_detection
from .marks import MarkedQuery, Marks, precision_at_k, read_marks
from .pairs import evaluate_pairs, rank_pairs
from .reranking import NUM_RERANKED, k_reciprocal_distances
from .results_file import check_results, check_score_thr, load_results, save_pairs, save_results
from .search import evaluate_search, most_similar, rank_gallery
from .upper_bound import ground_truth_results

__all__ = [
    'CBGM',
    'DetectionScores',
    'EvaluationSet',
    'GroundTruth',
    'NUM_RERANKED',
    'MarkedQuery',
    'Marks',
    'PairResults',
    'QueryContext',
    'RankedBoxes',
    'SearchProtocol',
    'SearchResults',
    'SearchScores',
    'check_results',
    'check_score_thr',
    'evaluate_detection',
    'evaluate_pairs',
    'evaluate_search',
    'ground_truth_results',
    'k_reciprocal_distances',
    'load_results',
    'mean_precision_at_recall',
    'most_similar',
    'precision_at_k',
    'rank_gallery',
    'rank_pairs',
    'read_marks',
    'save_pairs',
    'save_results',
]
