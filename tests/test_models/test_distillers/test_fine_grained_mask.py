"""Fine-grained mask: by hand, and against the definition written as loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.task_modules.prior_generators import AnchorGenerator

from mmps_kd.models.distillers.terms import fine_grained_mask


def grid(feature_size, sizes, stride=10):
    """Square anchors of given sizes around the centres of the cells, in the order of grid_priors."""
    height, width = feature_size
    return torch.tensor(
        [
            [x * stride + 5 - s / 2, y * stride + 5 - s / 2, x * stride + 5 + s / 2, y * stride + 5 + s / 2]
            for y in range(height)
            for x in range(width)
            for s in sizes
        ]
    )


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return np.float32(0)
    inter = width * height
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def slow_mask(anchors, boxes, feature_size, num_anchors, factor):
    height, width = feature_size
    mask = np.zeros((height, width), dtype=bool)
    for box in boxes.numpy():
        overlaps = [iou(anchor, box) for anchor in anchors.numpy()]
        for index, overlap in enumerate(overlaps):
            cell = index // num_anchors
            if overlap > np.float32(factor) * max(overlaps):
                mask[cell // width, cell % width] = True
    return mask


def test_by_hand():
    # Anchors of 10 px tile the map. The box covers cell (0, 0) and 8 of 10 columns of cell (0, 1): IoUs 100/180 and
    # 80/200; the largest is 0.556, and 0.4 exceeds half of it, but not 0.8 of it.
    anchors, box = grid((2, 3), [10]), torch.tensor([[0.0, 0, 18, 10]])
    assert fine_grained_mask(anchors, box, (2, 3), 1).tolist() == [[True, True, False], [False, False, False]]
    assert fine_grained_mask(anchors, box, (2, 3), 1, factor=0.8).tolist() == [
        [True, False, False],
        [False, False, False],
    ]


def test_threshold_is_strict():
    # IoUs 1 and exactly 0.5.
    anchors = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 4]])
    assert fine_grained_mask(anchors, anchors[:1], (1, 2), 1).tolist() == [[True, False]]


def test_every_box_has_its_own_threshold():
    # The second box is thin: its best IoU is 0.1, far below half of the first one's 1.
    anchors = grid((1, 4), [10])
    boxes = torch.tensor([[0.0, 0, 10, 10], [34, 0, 35, 10]])
    assert fine_grained_mask(anchors, boxes, (1, 4), 1).tolist() == [[True, False, False, True]]


def test_any_anchor_of_a_cell_suffices():
    # Only the second anchor of the middle cell fits; with both orders of the anchors the cell is the same.
    box = torch.tensor([[5.0, -5, 25, 15]])
    for sizes in ([2, 20], [20, 2]):
        mask = fine_grained_mask(grid((1, 3), sizes), box, (1, 3), 2, factor=0.9)
        assert mask.tolist() == [[False, True, False]]


def test_no_boxes():
    mask = fine_grained_mask(grid((2, 3), [10]), torch.zeros(0, 4), (2, 3), 1)
    assert mask.shape == (2, 3)
    assert mask.dtype == torch.bool
    assert not mask.any()


def test_box_that_no_anchor_touches():
    boxes = torch.tensor([[500.0, 500, 510, 510]])
    assert not fine_grained_mask(grid((2, 3), [10]), boxes, (2, 3), 1).any()


def test_padding_changes_nothing_in_the_image():
    boxes = torch.tensor([[3.0, 2, 14, 26]])
    small = fine_grained_mask(grid((3, 2), [10, 20]), boxes, (3, 2), 2)
    padded = fine_grained_mask(grid((5, 7), [10, 20]), boxes, (5, 7), 2)
    assert torch.equal(padded[:3, :2], small)
    assert not padded[:, 3:].any()
    assert not padded[4:].any()


@pytest.mark.parametrize('factor', [0.3, 0.5, 0.7])
def test_order_of_mmdet_anchors(factor):
    generator = AnchorGenerator(strides=[16], ratios=[0.5, 1.0, 2.0], scales=[1, 2])
    anchors = generator.grid_priors([(4, 6)], device='cpu')[0]
    boxes = torch.tensor([[10.0, 5, 30, 60], [70, 20, 95, 40]])
    mask = fine_grained_mask(anchors, boxes, (4, 6), generator.num_base_priors[0], factor)
    assert mask.numpy().tolist() == slow_mask(anchors, boxes, (4, 6), 6, factor).tolist()
    assert 0 < mask.sum() < 24


@settings(max_examples=30, deadline=None)
@given(
    boxes=st.lists(st.tuples(st.integers(-10, 60), st.integers(-10, 40), st.integers(1, 50), st.integers(1, 50))),
    sizes=st.lists(st.sampled_from([6, 10, 16, 24]), min_size=1, max_size=3),
    factor=st.sampled_from([0.3, 0.5, 0.8]),
)
def test_equals_the_loops(boxes, sizes, factor):
    boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in boxes], dtype=torch.float32).reshape(-1, 4)
    anchors = grid((3, 5), sizes)
    mask = fine_grained_mask(anchors, boxes, (3, 5), len(sizes), factor)
    assert mask.tolist() == slow_mask(anchors, boxes, (3, 5), len(sizes), factor).tolist()
