"""Overlap of boxes, in the field's convention: continuous coordinates, no extra pixel."""

import numpy as np


def paired_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of the i-th box of ``a`` with the i-th box of ``b``.

    Args:
        a: (N, 4) float, x1, y1, x2, y2 in pixels.
        b: (N, 4) float.

    Returns:
        (N,) float64 in 0..1; 0 where both boxes are without area.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    intersection = intersection_areas(a, b)
    union = _area(a) + _area(b) - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def intersection_areas(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Area (N,) in pixels that the i-th boxes of ``a`` and ``b``, (N, 4) x1, y1, x2, y2 each, have in common."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    return sides.clip(min=0).prod(axis=1)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


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
