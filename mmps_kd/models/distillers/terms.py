"""What a distillation loss compares: student and teacher outputs at one location of the model."""

from dataclasses import dataclass

import torch
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor, nn

from mmps_kd.structures import UNLABELLED

from ..detectors.person_search_rcnn import TrainOutputs
from ..roi_heads import RoIOutputs
from .teacher import FeatureLevel


@dataclass
class TeacherOutputs:
    """Outputs of the teacher for a student's batch; None where no configured loss needs them.

    Attributes:
        features: Feature maps, each (B, C, H, W).
        cls_scores: Objectness logits by level, (B, A, H, W); (B, 2 A, H, W) of a head with softmax.
        bbox_preds: Deltas by level, (B, 4 A, H, W).
        roi_cls_score: (R, 2) logits on the student's RoIs.
        roi_bbox_pred: (R, 4) deltas on them.
    """

    features: tuple[Tensor, ...]
    cls_scores: list[Tensor] | None = None
    bbox_preds: list[Tensor] | None = None
    roi_cls_score: Tensor | None = None
    roi_bbox_pred: Tensor | None = None


class FeatureTerm(nn.Module):
    """A loss between feature maps of one stride; in mode ``fine_grained`` only near people."""

    def __init__(self, loss: dict, level: int, student: FeatureLevel, teacher: FeatureLevel) -> None:
        super().__init__()
        self.level, self.teacher_level = level, teacher.index
        channels = dict(student_channels=student.channels, teacher_channels=teacher.channels)
        self.loss = MODELS.build({**channels, **loss})

    def forward(self, student: TrainOutputs, teacher: TeacherOutputs) -> Tensor:
        """Compare the level's maps."""
        return self.loss(student.features[self.level], teacher.features[self.teacher_level], self._mask(student))

    def distance(self, student: TrainOutputs, teacher: TeacherOutputs) -> Tensor:
        """||A(S) - T|| / ||T|| over the cells that count."""
        target, mask = teacher.features[self.teacher_level].float(), self._mask(student)
        with torch.autocast(target.device.type, enabled=False):
            difference = self.loss.adapter(student.features[self.level].float()) - target
        cells = 1 if mask is None else mask[:, None]
        return (difference * cells).norm() / (target * cells).norm()

    def _mask(self, student: TrainOutputs) -> Tensor | None:
        if self.loss.mode != 'fine_grained':
            return None
        size, anchors = student.features[self.level].shape[-2:], student.rpn.anchors[self.level]
        num_anchors = anchors.shape[1] // size.numel()
        pairs = zip(anchors, student.boxes, strict=True)
        masks = torch.stack([fine_grained_mask(priors, boxes, size, num_anchors) for priors, boxes in pairs])
        # Anchors in the padding beside a person at the image's edge fit as well; there is nothing to imitate.
        return masks & student.rpn.valid_flags[self.level].unflatten(1, (*size, num_anchors)).any(dim=3)


def fine_grained_mask(
    anchors: Tensor, boxes: Tensor, feature_size: tuple[int, int], num_anchors: int, factor: float = 0.5
) -> Tensor:
    """Mark the cells whose anchors fit a true box about as well as any anchor does (Wang et al., CVPR 2019).

    A cell belongs to a box if one of its anchors has an IoU above ``factor`` times the largest IoU that any anchor
    has with this box; a box that no anchor touches has no cells. The mask is the union over the boxes.

    Anchors and boxes share one frame, the pixels of the network's input, so nothing is rescaled here and padding
    shifts nothing. A person at the edge of the image may claim cells of the padding beside it, where its anchors
    still fit; :class:`FeatureTerm` removes them.

    Args:
        anchors: (H * W * A, 4), x1 y1 x2 y2, cells row by row and the A anchors of a cell together, as mmdet's
            ``AnchorGenerator.grid_priors`` gives them for the padded map.
        boxes: (G, 4), x1 y1 x2 y2; G may be 0.
        feature_size: Height H and width W of the padded feature map.
        num_anchors: A, anchors a cell.
        factor: In [0, 1); larger is narrower.

    Returns:
        (H, W) bool, all False without boxes.
    """
    overlaps = bbox_overlaps(anchors, boxes)
    fits = (overlaps > factor * overlaps.amax(dim=0)).any(dim=1)
    return fits.reshape(*feature_size, num_anchors).any(dim=2)


class HeadTerm(nn.Module):
    """A loss between the outputs of two heads on the same anchors or RoIs."""

    def __init__(self, loss: dict) -> None:
        super().__init__()
        self.loss = MODELS.build(loss)


class RPNClsTerm(HeadTerm):
    """A loss between objectness logits on the anchors that the student sampled."""

    def forward(self, student: TrainOutputs, teacher: TeacherOutputs) -> Tensor:
        """Compare the sampled anchors' logits, averaged as the hard loss is."""
        weight = torch.cat(student.rpn.label_weights, dim=1).flatten()
        return self.loss(*self._logits(student, teacher), weight, student.rpn.avg_factor)

    def distance(self, student: TrainOutputs, teacher: TeacherOutputs) -> Tensor:
        """Mean absolute difference of the sampled anchors' probability to be a person."""
        sampled = torch.cat(student.rpn.label_weights, dim=1).flatten() > 0
        own, target = (foreground(logits[sampled]) for logits in self._logits(student, teacher))
        return (own - target).abs().mean()

    def _logits(self, student: TrainOutputs, teacher: TeacherOutputs) -> tuple[Tensor, Tensor]:
        """(N, K) logits of all anchors: K = 1 for sigmoid, 2 for softmax, background last."""
        size = student.rpn.cls_scores[0].numel() // student.rpn.label_weights[0].numel()
        return by_anchor(student.rpn.cls_scores, size), by_anchor(teacher.cls_scores, size)


class RPNBoxTerm(HeadTerm):
    """A loss between deltas on the positive anchors that the student sampled."""

    def forward(self, student: TrainOutputs, teacher: TeacherOutputs) -> Tensor:
        """Compare the positive anchors' deltas, averaged as the hard loss is."""
        rpn, positive = student.rpn, self._positive(student)
        deltas, soft = by_anchor(rpn.bbox_preds, 4)[positive], by_anchor(teacher.bbox_preds, 4)[positive]
        targets = torch.cat(rpn.bbox_targets, dim=1).flatten(0, 1)[positive]
        return self.loss(deltas, soft, targets, rpn.avg_factor)

    def distance(self, student: TrainOutputs, teacher: TeacherOutputs) -> Tensor:
        """Mean L2 distance of the positive anchors' deltas."""
        positive = self._positive(student)
        return mean_distance(*(by_anchor(x.bbox_preds, 4)[positive] for x in (student.rpn, teacher)))

    def _positive(self, student: TrainOutputs) -> Tensor:
        return torch.cat(student.rpn.bbox_weights, dim=1).flatten(0, 1)[:, 0] > 0


class RoIClsTerm(HeadTerm):
    """A loss between class logits on the RoIs that the student sampled."""

    def forward(self, student: TrainOutputs, teacher: TeacherOutputs) -> Tensor:
        """Compare all sampled RoIs."""
        return self.loss(student.roi.cls_score, teacher.roi_cls_score)

    def distance(self, student: TrainOutputs, teacher: TeacherOutputs) -> Tensor:
        """Mean absolute difference of the RoIs' probability to be a person."""
        own, target = foreground(student.roi.cls_score), foreground(teacher.roi_cls_score)
        return (own - target).abs().mean()


class RoIBoxTerm(HeadTerm):
    """A loss between deltas on the positive RoIs that the student sampled."""

    def forward(self, student: TrainOutputs, teacher: TeacherOutputs) -> Tensor:
        """Compare the positive RoIs, averaged over all sampled ones as the hard loss is."""
        roi = student.roi
        positive = roi.bbox_weights[:, 0] > 0
        deltas, soft, targets = roi.bbox_pred[positive], teacher.roi_bbox_pred[positive], roi.bbox_targets[positive]
        return self.loss(deltas, soft, targets, len(positive))

    def distance(self, student: TrainOutputs, teacher: TeacherOutputs) -> Tensor:
        """Mean L2 distance of the positive RoIs' deltas."""
        positive = student.roi.bbox_weights[:, 0] > 0
        return mean_distance(student.roi.bbox_pred[positive], teacher.roi_bbox_pred[positive])


HEAD_TERMS = {'rpn.cls': RPNClsTerm, 'rpn.bbox': RPNBoxTerm, 'roi.cls': RoIClsTerm, 'roi.bbox': RoIBoxTerm}


class EmbeddingTerm(nn.Module):
    """A loss between embeddings of labelled people and their rows of the teacher's table (L, D)."""

    rows: Tensor

    def __init__(self, loss: dict, rows: Tensor) -> None:
        super().__init__()
        self.loss = MODELS.build(loss)
        self.register_buffer('rows', rows.clone(), persistent=False)

    def forward(self, student: TrainOutputs, teacher: TeacherOutputs | None) -> Tensor:
        """Compare the labelled positive RoIs' embeddings with their identities' rows."""
        labelled = student.roi.pids != UNLABELLED
        return self.loss(student.roi.embeddings[labelled], self.rows[student.roi.pids[labelled]])

    def distance(self, student: TrainOutputs, teacher: TeacherOutputs | None) -> Tensor:
        """Mean cosine distance of the labelled embeddings to their rows."""
        return cosine_distance(student.roi, self.rows)


def cosine_distance(roi: RoIOutputs, rows: Tensor) -> Tensor:
    """Mean of 1 - cosine between the labelled positive RoIs' embeddings and their rows of a table (L, D)."""
    labelled = roi.pids != UNLABELLED
    return 1 - (roi.embeddings[labelled] * rows[roi.pids[labelled]]).sum(dim=1).mean()


def foreground(logits: Tensor) -> Tensor:
    """(N,) probability to be a person, from one logit (sigmoid) or those of person and background (softmax)."""
    logits = logits.float()
    return logits.sigmoid()[:, 0] if logits.shape[1] == 1 else logits.softmax(dim=1)[:, 0]


def mean_distance(own: Tensor, target: Tensor) -> Tensor:
    """Mean L2 distance of rows (N, 4); NaN if there are none."""
    return (own.float() - target.float()).norm(dim=1).mean()


def by_anchor(maps: list[Tensor], size: int) -> Tensor:
    """Put a head's maps into anchor order.

    Args:
        maps: (B, A * size, H, W), one a level.
        size: Numbers an anchor.

    Returns:
        (N, size), image by image, level by level, cell by cell, as mmdet orders anchors.
    """
    rows = [level.permute(0, 2, 3, 1).reshape(len(level), -1, size) for level in maps]
    return torch.cat(rows, dim=1).flatten(0, 1)
