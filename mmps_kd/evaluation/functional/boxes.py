"""Overlap that a detection of a searched person needs."""

import numpy as np


def search_iou_threshold(boxes: np.ndarray) -> np.ndarray:
    """Overlap that a detection of a searched person needs: ``min(0.5, wh / ((w + 10)(h + 10)))``.

    The rule comes from Xiao et al. (CVPR 2017): below about 24 pixels a side, being off by five pixels on
    every side costs more than half of the overlap, so small people are asked for less.

    Args:
        boxes: (N, 4) float, true boxes.

    Returns:
        (N,) float64 in 0..0.5.
    """
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return np.minimum(0.5, width * height / ((width + 10) * (height + 10)))
