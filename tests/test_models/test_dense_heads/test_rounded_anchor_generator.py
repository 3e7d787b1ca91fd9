"""Anchors as torchvision has them."""

import torch
from mmdet.registry import TASK_UTILS

SIZES = dict(scales=[2, 4, 8, 16, 32], ratios=[0.5, 1.0, 2.0], strides=[16])


def test_whole_pixels_by_hand():
    anchors = TASK_UTILS.build(dict(type='RoundedAnchorGenerator', **SIZES))
    (base,) = anchors.base_anchors
    # torchvision's AnchorGenerator with sizes 32 to 512: rounded half widths and heights, ratio by ratio.
    halves = [[23, 11], [45, 23], [91, 45], [181, 91], [362, 181]]
    square = [[16, 16], [32, 32], [64, 64], [128, 128], [256, 256]]
    tall = [[height, width] for width, height in halves]
    assert base[:, 2:].tolist() == halves + square + tall
    assert torch.equal(base[:, :2], -base[:, 2:])
    (grid,) = anchors.grid_priors([(2, 3)], device='cpu')
    assert grid[15].tolist() == [16 - 23, -11, 16 + 23, 11]


def test_at_most_half_a_pixel_from_mmdets():
    (ours,), (mmdets,) = (
        TASK_UTILS.build(dict(type=name, **SIZES)).base_anchors
        for name in ('RoundedAnchorGenerator', 'AnchorGenerator')
    )
    assert 0.4 < (ours - mmdets).abs().max() <= 0.5
