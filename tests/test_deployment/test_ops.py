"""The two operators, against plain references, in PyTorch and as ONNX."""

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops import RoIAlign
from torch import nn
from torch.export import Dim

from mmps_kd.deployment.export import onnx_translations
from mmps_kd.deployment.ops import nms, roi_align

# No overlap of small boxes in whole pixels is exactly this.
IOU_THR, SCORE_THR = 0.4142, 0.25
CORNERS = st.lists(st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 12)] * 2), max_size=12)


def as_onnx(module, inputs, folder):
    """A module as onnxruntime runs it, with the first axis of its last input dynamic."""
    fixed = [{} for _ in inputs[:-1]]
    program = torch.export.export(module, inputs, dynamic_shapes=(*fixed, {0: Dim.AUTO}))
    path = folder / 'op.onnx'
    torch.onnx.export(program, f=path, opset_version=18, custom_translation_table=onnx_translations(), verbose=False)
    session = onnxruntime.InferenceSession(path)
    names = [given.name for given in session.get_inputs()]
    return lambda *values: session.run(None, dict(zip(names, (v.numpy() for v in values), strict=True)))[0]


class NMS(nn.Module):
    def forward(self, rows):
        return nms(rows[:, :4], rows[:, 4], IOU_THR, SCORE_THR, 3)


class Align(nn.Module):
    def __init__(self, samples, aligned):
        super().__init__()
        self.samples, self.aligned = samples, aligned

    def forward(self, feats, rois):
        return roi_align(feats, rois, 4, 2, 0.25, self.samples, self.aligned)


def slow_nms(rows, iou_thr, score_thr, max_num):
    """Indices of rows x1, y1, x2, y2, score."""
    kept = []
    for i in sorted(range(len(rows)), key=lambda i: -rows[i][4]):
        if rows[i][4] > score_thr and all(iou(rows[i], rows[j]) <= iou_thr for j in kept):
            kept.append(i)
    return kept[:max_num]


def iou(a, b):
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return width * height / (sum(areas) - width * height)


def make_rows(corners, seed):
    """Rows from x, y, width, height, with scores 0, 0.1, 0.2, ... in any order."""
    scores = np.random.default_rng(seed).permutation(len(corners)) / 10
    rows = [[x, y, x + w, y + h, score] for (x, y, w, h), score in zip(corners, scores, strict=True)]
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)


@settings(deadline=None)
@given(CORNERS, st.integers(0, 9))
def test_nms(corners, seed):
    rows = make_rows(corners, seed)
    assert NMS()(rows).tolist() == slow_nms(rows.tolist(), IOU_THR, SCORE_THR, 3)


def test_nms_in_onnx(tmp_path):
    run = as_onnx(NMS(), (torch.rand(9, 5),), tmp_path)
    rng = np.random.default_rng(0)
    for count in range(13):
        rows = make_rows(rng.integers([0, 0, 1, 1], [20, 20, 12, 12], (count, 4)), seed=count)
        assert run(rows).tolist() == slow_nms(rows.tolist(), IOU_THR, SCORE_THR, 3)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('samples', [0, 2])
def test_roi_align(samples, aligned, tmp_path):
    generator = torch.Generator().manual_seed(0)
    feats = torch.rand(1, 3, 12, 16, generator=generator)
    corners = 80 * torch.rand(5, 2, 2, generator=generator) - 8
    # Some reach over the border; the last one has no area.
    rois = torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)
    rois = torch.cat([rois, torch.tensor([[8.0, 8, 8, 8]])])
    theirs = RoIAlign((4, 2), spatial_scale=0.25, sampling_ratio=samples, aligned=aligned)
    expected = theirs(feats, torch.nn.functional.pad(rois, (1, 0)))
    assert torch.equal(Align(samples, aligned)(feats, rois), expected)
    assert torch.equal(Align(samples, aligned)(feats.to(memory_format=torch.channels_last), rois), expected)

    run = as_onnx(Align(samples, aligned), (feats, rois), tmp_path)
    np.testing.assert_allclose(run(feats, rois), expected, atol=1e-6)
    np.testing.assert_allclose(run(feats, rois[:2]), expected[:2], atol=1e-6)
    assert run(feats, rois[:0]).shape == (0, 3, 4, 2)
