"""Precision-recall curve of a search."""

import numpy as np


def mean_precision_at_recall(
    hit_precision: np.ndarray, hit_offsets: np.ndarray, num_truths: np.ndarray, levels: np.ndarray
) -> np.ndarray:
    """Interpolated precision at given recalls, mean over the queries.

    A query's precision at recall r is the best precision of its true positives from the one that reaches r on; 0
    where r is out of its reach.

    Args:
        hit_precision: (H,) float, precision at each true positive (see :class:`SearchScores`).
        hit_offsets: (Q + 1,) int.
        num_truths: (Q,) int, true boxes of each query.
        levels: (L,) float, recalls in 0..1.

    Returns:
        (L,) float64 in 0..1.
    """
    total = np.zeros(len(levels))
    for begin, end, truths in zip(hit_offsets[:-1], hit_offsets[1:], num_truths, strict=True):
        best_from = np.maximum.accumulate(hit_precision[begin:end][::-1])[::-1]
        # The tolerance keeps 0.3 x 10 true boxes from asking for a fourth one.
        needed = np.maximum(np.ceil(levels * truths - 1e-9).astype(int), 1)
        total += np.append(best_from, np.zeros(truths - len(best_from)))[needed - 1]
    return total / len(num_truths)
