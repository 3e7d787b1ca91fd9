"""The two steps of a detector that plain torch lacks, as operators that exporters know.

``torch.ops.mmps_kd.nms`` and ``torch.ops.mmps_kd.roi_align`` run mmcv's code. In a ``torch.export`` program they stay
as they are, in ONNX they become ``NonMaxSuppression`` and ``RoiAlign`` of the standard.
"""

import torch
from mmcv.ops import nms as mmcv_nms
from mmcv.ops import roi_align as mmcv_roi_align
from torch import Tensor


@torch.library.custom_op('mmps_kd::nms', mutates_args=())
def nms(boxes: Tensor, scores: Tensor, iou_thr: float, score_thr: float, max_num: int) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes: (N, 4) x1, y1, x2, y2.
        scores: (N,).
        iou_thr: A box goes if it overlaps a kept one by more.
        score_thr: Only boxes of higher score take part.
        max_num: Boxes kept at most, those of highest score.

    Returns:
        (K,) int64 indices of the kept boxes, highest score first.
    """
    (sure,) = torch.nonzero(scores > score_thr, as_tuple=True)
    _, kept = mmcv_nms(boxes[sure].contiguous(), scores[sure].contiguous(), iou_thr)
    return sure[kept[:max_num]]


@nms.register_fake
def _(boxes: Tensor, scores: Tensor, iou_thr: float, score_thr: float, max_num: int) -> Tensor:
    return boxes.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.long)


@torch.library.custom_op('mmps_kd::roi_align', mutates_args=())
def roi_align(
    feats: Tensor, rois: Tensor, height: int, width: int, spatial_scale: float, samples: int, aligned: bool
) -> Tensor:
    """Average features in the cells of regions.

    Args:
        feats: (1, C, H, W).
        rois: (R, 4) x1, y1, x2, y2 in input pixels.
        height: Cells of a region from top to bottom.
        width: Cells of a region from left to right.
        spatial_scale: Feature cells in an input pixel.
        samples: Points that are averaged along each side of a cell; 0 for as many as feature cells.
        aligned: Correct the offset of half a feature cell, as mmdet does and torchvision's detectors do not.

    Returns:
        (R, C, height, width).
    """
    rois = torch.cat([rois.new_zeros(len(rois), 1), rois], dim=1)
    # mmcv reads a channels_last map in the wrong order.
    return mmcv_roi_align(feats.contiguous(), rois, (height, width), spatial_scale, samples, 'avg', aligned)


@roi_align.register_fake
def _(
    feats: Tensor, rois: Tensor, height: int, width: int, spatial_scale: float, samples: int, aligned: bool
) -> Tensor:
    return feats.new_empty(rois.shape[0], feats.shape[1], height, width)
