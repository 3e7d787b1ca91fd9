"""The test-time path of a person-search model without what exporters cannot follow."""

import copy

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import RPNHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor, nn

from mmps_kd.errors import UserError
from mmps_kd.models.detectors import PersonSearchRCNN
from mmps_kd.models.roi_heads import SeqRoIHead

from .ops import nms, roi_align

ANY_SCORE = -0.5
"""Below every probability; what has no area is scored -1 and so takes no part."""


class SearchGraph(nn.Module):
    """A trained model as one function from an image to the persons in it.

    The numbers are those of ``model.predict``; only control flow that depends on data is written in another way.

    Args:
        model: Left as it is.

    Raises:
        UserError: If the model suppresses boxes by anything but plain NMS.
    """

    def __init__(self, model: PersonSearchRCNN) -> None:
        super().__init__()
        require_plain_nms(model)
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        roi_head = self.model.roi_head
        roi_head.bbox_roi_extractor = RoIFeatures(roi_head.bbox_roi_extractor)
        # Its table and queue are for training.
        roi_head.reid_head.loss_oim = None

    def forward(self, image: Tensor, score_thr: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Detect and embed persons.

        Args:
            image: (H, W, 3) uint8 or float32 BGR in 0..255, resized as the test pipeline does.
            score_thr: () float32, persons of higher score are given; None for the model's own threshold.

        Returns:
            (N, 4) float32 boxes x1, y1, x2, y2 in pixels of ``image``, (N,) float32 scores, highest first, (N, D)
            float32 embeddings of unit length.
        """
        size = image.shape[:2]
        x = self.model.extract_feat(preprocess(self.model.data_preprocessor, image))
        roi_head = self.model.roi_head
        if score_thr is None:
            score_thr = roi_head.test_cfg.score_thr
        boxes, scores, sources = self._detect(x, propose(self.model.rpn_head, x, size), size, score_thr)
        rois = rois_and_spare(boxes if roi_head.embed_final_boxes else sources, size)
        embeddings = roi_head.reid_head(roi_head.extract_reid_feats(x, rois))
        return boxes, scores, embeddings[:-1]

    def _detect(
        self, x: tuple[Tensor], proposals: Tensor, size: tuple[int, int], score_thr: float | Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Final boxes, scores and the boxes before the last regression, by the first head and a second, if any."""
        head = self.model.roi_head
        cfg = head.test_cfg
        rois = rois_and_spare(proposals, size)
        answer = head._bbox_forward(x, rois)
        boxes = head.bbox_head.bbox_coder.decode(rois[:, 1:], answer['bbox_pred'], max_shape=size)[:-1]
        scores = answer['cls_score'].softmax(dim=1)[:-1, 0]
        kept = suppress(boxes, scores, cfg.nms.iou_threshold, score_thr, cfg.max_per_img)
        boxes, scores = boxes[kept], scores[kept]
        if not isinstance(head, SeqRoIHead):
            return boxes, scores, proposals[kept]
        rois = rois_and_spare(boxes, size)
        bbox_pred, _, logits = head.forward_second(x, rois)
        regressed = head.second_bbox_head.bbox_coder.decode(rois[:, 1:], bbox_pred, max_shape=size)[:-1]
        scores = scores if head.first_cls_score else logits[:-1].sigmoid()
        kept = suppress(regressed, scores, cfg.second.nms.iou_threshold, score_thr, cfg.max_per_img)
        return regressed[kept], scores[kept], boxes[kept]


class EmbedGraph(nn.Module):
    """A trained model as one function from an image and boxes in it to embeddings, without its detector.

    The numbers are those of ``model.roi_head.embed``.

    Args:
        model: Left as it is.
    """

    def __init__(self, model: PersonSearchRCNN) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        roi_head = self.model.roi_head
        roi_head.bbox_roi_extractor = RoIFeatures(roi_head.bbox_roi_extractor)
        # What detects, and what is for training.
        self.model.rpn_head = roi_head.bbox_head = roi_head.reid_head.loss_oim = None

    def forward(self, image: Tensor, boxes: Tensor) -> Tensor:
        """Embed persons.

        Args:
            image: (H, W, 3) uint8 or float32 BGR in 0..255, resized as the test pipeline does.
            boxes: (N, 4) float32 x1, y1, x2, y2 in pixels of ``image``; none is allowed.

        Returns:
            (N, D) float32 of unit length.
        """
        x = self.model.extract_feat(preprocess(self.model.data_preprocessor, image))
        roi_head = self.model.roi_head
        return roi_head.reid_head(roi_head.extract_reid_feats(x, rois_and_spare(boxes, image.shape[:2])))[:-1]


class RoIFeatures(nn.Module):
    """mmdet's extractor, with every region read from every level and the fitting one chosen afterwards.

    Args:
        extractor: Its levels and the rule that chooses among them.
    """

    def __init__(self, extractor: SingleRoIExtractor) -> None:
        super().__init__()
        self.extractor = extractor
        self.num_inputs = extractor.num_inputs

    def forward(self, feats: tuple[Tensor], rois: Tensor) -> Tensor:
        """Features (R, C, h, w) of RoIs (R, 5) of the one image."""
        layers = self.extractor.roi_layers
        chosen, *others = (
            roi_align(feat, rois[:, 1:], *layer.output_size, layer.spatial_scale, layer.sampling_ratio, layer.aligned)
            for layer, feat in zip(layers, feats, strict=True)
        )
        fitting = self.extractor.map_roi_levels(rois, len(feats))
        for level, read in enumerate(others, start=1):
            chosen = torch.where((fitting == level)[:, None, None, None], read, chosen)
        return chosen


def require_plain_nms(model: PersonSearchRCNN) -> None:
    """Refuse what the operator :func:`nms` does not do."""
    rcnn = model.roi_head.test_cfg
    second = [rcnn.second] if 'second' in rcnn else []
    for cfg in (model.rpn_head.test_cfg, rcnn, *second):
        if cfg.nms.get('type', 'nms') != 'nms':
            raise UserError(f'NMS of type {cfg.nms.type} cannot be exported: set type=nms in model.test_cfg')


def preprocess(preprocessor: nn.Module, image: Tensor) -> Tensor:
    """Normalised and padded input (1, 3, H', W') of an image (H, W, 3) uint8 BGR."""
    channels = image.flip(-1) if preprocessor._channel_conversion else image
    x = (channels.permute(2, 0, 1).float() - preprocessor.mean) / preprocessor.std
    height, width = (-length % preprocessor.pad_size_divisor for length in image.shape[:2])
    return F.pad(x, (0, width, 0, height), value=preprocessor.pad_value)[None]


def suppress(boxes: Tensor, scores: Tensor, iou_thr: float, score_thr: float | Tensor, max_num: int) -> Tensor:
    """:func:`nms` with a threshold of scores that may be an input of the graph."""
    return nms(boxes, torch.where(scores > score_thr, scores, -1), iou_thr, ANY_SCORE, max_num)


def propose(head: RPNHead, x: tuple[Tensor], size: tuple[int, int]) -> Tensor:
    """Proposals (P, 4) of the RPN, best first."""
    cfg = head.test_cfg
    logits, deltas = head(x)
    anchors = head.prior_generator.grid_priors([level.shape[-2:] for level in logits], device=x[0].device)
    levels = [best(cfg.nms_pre, *level) for level in zip(logits, deltas, anchors, strict=True)]
    scores, deltas, anchors = map(torch.cat, zip(*levels, strict=True))
    boxes = head.bbox_coder.decode(anchors, deltas, max_shape=size)
    width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(dim=1)
    smallest = cfg.get('min_bbox_size', -1)
    scores = torch.where((width > smallest) & (height > smallest), scores, -1)
    # Levels do not suppress each other: each is moved to a place of its own.
    level_ids = torch.cat([torch.full_like(level[0], index) for index, level in enumerate(levels)])
    apart = boxes + (level_ids * (boxes.max() + 1))[:, None]
    return boxes[nms(apart, scores, cfg.nms.iou_threshold, ANY_SCORE, cfg.max_per_img)]


def best(count: int, logits: Tensor, deltas: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, deltas and anchors of a level's best anchors, ``count`` of them or all."""
    scores = logits[0].permute(1, 2, 0).flatten().sigmoid()
    deltas = deltas[0].permute(1, 2, 0).reshape(-1, 4)
    scores, chosen = scores.topk(torch.sym_min(count, scores.shape[0]))
    return scores, deltas[chosen], anchors[chosen]


def rois_and_spare(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """RoIs (N + 1, 5) of boxes (N, 4), and the whole image: with it there is always something to run heads on."""
    height, width = size
    spare = torch.cat([boxes.new_full((1, 1), side) for side in (0, 0, 0, width, height)], dim=1)
    return torch.cat([F.pad(boxes, (1, 0)), spare])
