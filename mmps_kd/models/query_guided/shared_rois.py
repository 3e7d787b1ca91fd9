"""The RoI head on one image, for several lists of proposals at once."""

from operator import itemgetter

import torch
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData
from torch import Tensor

from ..roi_heads import ReIDRoIHead

answer = itemgetter('cls_score', 'bbox_pred')


def detect_shared(
    roi_head: ReIDRoIHead, x: tuple[Tensor], proposals: list[Tensor], meta: dict, chunk: int
) -> list[InstanceData]:
    """Detect and embed people for each list of proposals, as if it were the only one.

    Lists chosen for different queries have most boxes in common; each box goes through the RoI head once.

    Args:
        roi_head: With box head and re-id head.
        x: Feature maps of one image, each (1, C, H, W).
        proposals: One (n, 4) tensor a query, x1, y1, x2, y2 in network input pixels.
        meta: Meta information of the image.
        chunk: Boxes in the RoI head at a time, which bounds the memory.

    Returns:
        One InstanceData a query: ``bboxes`` (m, 4) in network input pixels, ``scores``, ``labels``, ``embeddings``.
    """
    counts = [len(boxes) for boxes in proposals]
    boxes, position = torch.cat(proposals).unique(dim=0, return_inverse=True)
    rois = bbox2roi([boxes])
    # Their features would need 0.4 MB a box (ResNet-50): only the answers are kept.
    answers = [answer(roi_head._bbox_forward(x, part)) for part in rois.split(chunk)]
    scores, deltas = (torch.cat(parts) for parts in zip(*answers, strict=True))
    results = roi_head.bbox_head.predict_by_feat(
        *(values[position].split(counts) for values in (rois, scores, deltas)), [meta] * len(counts), roi_head.test_cfg
    )
    boxes, position = torch.cat([result.bboxes for result in results]).unique(dim=0, return_inverse=True)
    embeddings = roi_head.embed(x, [boxes])[0][position]
    for result, rows in zip(results, embeddings.split([len(result) for result in results]), strict=True):
        result.embeddings = rows
    return results
