"""Overlap and the overlap rule."""

import numpy as np
import pytest

from mmps_kd.evaluation.functional.boxes import search_iou_threshold
from mmps_kd.structures import paired_iou


def test_paired_iou():
    a = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [5, 5, 5, 5]], np.float32)
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [5, 5, 5, 5]], np.float32)
    assert paired_iou(a, b).tolist() == pytest.approx([1.0, 1 / 3, 0.0, 0.0])


def test_search_iou_threshold():
    boxes = np.array([[0.0, 0, 100, 200], [0, 0, 10, 10], [5, 5, 25, 35]])
    assert search_iou_threshold(boxes).tolist() == pytest.approx([0.5, 0.25, 0.5])
    assert search_iou_threshold(np.array([[0.0, 0, 20, 25]])).tolist() == pytest.approx([500 / (30 * 35)])
