"""Index arithmetic for arrays that hold one run of items after another."""

import numpy as np


def run_offsets(counts: np.ndarray) -> np.ndarray:
    """Where each run begins and the last one ends.

    Args:
        counts: (N,) int, length of each run.

    Returns:
        (N + 1,) int64; run i is ``[offsets[i], offsets[i + 1])``.
    """
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def expand_runs(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Indices ``starts[i], starts[i] + 1, ...``, ``counts[i]`` of them, for every run i in order.

    Args:
        starts: (N,) int, first index of each run.
        counts: (N,) int, length of each run.

    Returns:
        (sum of counts,) int64.
    """
    offsets = run_offsets(counts)
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], counts)
