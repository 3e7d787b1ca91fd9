"""This package's operators in ONNX's words."""

import torch
from onnxscript import opset18 as op

from . import ops  # noqa: F401  registers the operators


def nms(boxes, scores, iou_thr: float, score_thr: float, max_num: int):
    """:func:`mmps_kd.deployment.ops.nms`."""
    first = op.Constant(value_ints=[0])
    rows = op.NonMaxSuppression(
        op.Unsqueeze(boxes, first),
        op.Unsqueeze(scores, op.Constant(value_ints=[0, 1])),
        op.Constant(value_ints=[max_num]),
        op.Constant(value_floats=[iou_thr]),
        op.Constant(value_floats=[score_thr]),
    )
    # Rows are image, class and index of a box.
    return op.Gather(rows, op.Constant(value_int=2), axis=1)


def roi_align(feats, rois, height: int, width: int, spatial_scale: float, samples: int):
    """:func:`mmps_kd.deployment.ops.roi_align`."""
    first = op.Constant(value_ints=[0])
    count = op.Shape(rois, start=0, end=1)
    return op.RoiAlign(
        feats,
        rois,
        op.Expand(first, count),
        coordinate_transformation_mode='half_pixel',
        output_height=height,
        output_width=width,
        sampling_ratio=samples,
        spatial_scale=spatial_scale,
    )


TRANSLATIONS = {torch.ops.mmps_kd.nms.default: nms, torch.ops.mmps_kd.roi_align.default: roi_align}
