"""What a distillation loss compares: student and teacher outputs at one location of the model."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmdet.models.task_modules.coders import BaseBBoxCoder
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_overlaps
from mmdet.utils import InstanceList
from torch import Tensor, nn

from mmps_kd.errors import UserError, check_choice
from mmps_kd.structures import UNLABELLED

from ..detectors.person_search_rcnn import TrainOutputs
from ..roi_heads import RoIOutputs
from .teacher import FeatureLevel

MIN_OVERLAP = 0.5


@dataclass
class HeadOutputs:
    """What the teacher says about the student's N anchors or RoIs.

    Attributes:
        cls_score: (N, K) logits: K = 1 for sigmoid, 2 for softmax, background last.
        bbox_pred: (N, 4) deltas.
        known: (N,) bool, about which of them it says something; None: about all.
    """

    cls_score: Tensor
    bbox_pred: Tensor
    known: Tensor | None = None


@dataclass
class TeacherOutputs:
    """Outputs of the teacher for a student's batch; None where no configured loss needs them.

    Attributes:
        features: Feature maps, each (B, C, H, W).
        rpn: On the anchors, image by image in mmdet's order.
        roi: On the RoIs that the student sampled.
        embeddings: (P, D), unit length, of the RoIs that the student embedded.
    """

    features: tuple[Tensor, ...] | None = None
    rpn: HeadOutputs | None = None
    roi: HeadOutputs | None = None
    embeddings: Tensor | None = None


def conv1x1(student_channels: int, teacher_channels: int) -> nn.Module:
    """A 1x1 convolution; the identity where the channels agree."""
    if student_channels == teacher_channels:
        return nn.Identity()
    return nn.Conv2d(student_channels, teacher_channels, 1)


def conv3x3_relu(student_channels: int, teacher_channels: int) -> nn.Module:
    """A 3x3 convolution with ReLU, its weights of standard deviation 0.01 (Wang et al., CVPR 2019)."""
    conv = nn.Conv2d(student_channels, teacher_channels, 3, padding=1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, nn.ReLU())


ADAPTERS = {'conv1x1': conv1x1, 'conv3x3_relu': conv3x3_relu, 'none': lambda student, teacher: nn.Identity()}
MASKS = ('fine_grained', 'boxes')


class FeatureTerm(nn.Module):
    """A loss between feature maps of one stride, the student's brought to the teacher's channels.

    The adaptation layer is trained with the student. Its weights are drawn apart from the global random stream: a
    student built next has the weights that it has without distillation.

    Args:
        loss: Config of any loss ``forward(student, teacher)`` of maps (B, C, H, W) in fp32; with a mask
            ``forward(student, teacher, mask)``.
        student: The student's feature map.
        teacher: The teacher's.
        adapter: Key of :data:`ADAPTERS`.
        mask: ``fine_grained``: (B, H, W) bool, the cells near people, see :func:`fine_grained_mask`; ``boxes``:
            (B, 2, H, W) float, weights of the cells in boxes and of the others, see :func:`box_weights`; None: no mask.

    Raises:
        UserError: If adapter or mask does not exist, or the loss cannot be called so.
    """

    def __init__(
        self,
        loss: dict,
        student: FeatureLevel,
        teacher: FeatureLevel,
        adapter: str = 'conv1x1',
        mask: str | None = None,
    ) -> None:
        super().__init__()
        check_choice('adapter', adapter, ADAPTERS)
        if mask is not None:
            check_choice('mask', mask, MASKS)
        self.level, self.teacher_level, self.mask, self.stride = student.index, teacher.index, mask, student.stride
        self.summary = f'{adapter} {student.channels}->{teacher.channels}{f", {mask} mask" if mask else ""}'
        with torch.random.fork_rng(devices=[]):
            self.loss = MODELS.build(loss)
            self.adapter = ADAPTERS[adapter](student.channels, teacher.channels)
            self._try(torch.randn(1, student.channels, 8, 8), torch.randn(1, teacher.channels, 8, 8))

    @torch.no_grad()
    def _try(self, student: Tensor, teacher: Tensor) -> None:
        """Call a copy of the loss, so that what does not fit is found before training."""
        size = student.shape[2:]
        masks = dict(fine_grained=torch.ones(1, *size, dtype=torch.bool), boxes=torch.full((1, 2, *size), 1 / 64))
        masks = () if self.mask is None else (masks[self.mask],)
        try:
            value = copy.deepcopy(self.loss).eval()(self.adapter(student), teacher, *masks)
        except UserError:
            raise
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            call = f'loss(student, teacher{", mask" * len(masks)})'
            raise UserError(
                f'{type(self.loss).__name__} cannot be called as {call} with maps (B, C, H, W), after {self.summary}: '
                f'{str(error).splitlines()[0]}'
            ) from None
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise UserError(f'{type(self.loss).__name__} gives no single value for two feature maps, but {value}')

    def forward(self, student: TrainOutputs, teacher: TeacherOutputs) -> Tensor:
        """Compare the level's maps."""
        adapted, target = self._maps(student, teacher)
        mask = self._mask(student)
        with torch.autocast(target.device.type, enabled=False):
            return self.loss(adapted, target) if mask is None else self.loss(adapted, target, mask)

    def distance(self, student: TrainOutputs, teacher: TeacherOutputs) -> Tensor:
        """||A(S) - T|| / ||T|| over the cells that count."""
        (adapted, target), mask = self._maps(student, teacher), self._mask(student)
        if mask is not None and self.mask == 'boxes':
            mask = mask.sum(dim=1) > 0
        cells = 1 if mask is None else mask[:, None]
        return ((adapted - target) * cells).norm() / (target * cells).norm()

    def _maps(self, student: TrainOutputs, teacher: TeacherOutputs) -> tuple[Tensor, Tensor]:
        """The student's map after adaptation, and the teacher's, in fp32."""
        target = teacher.features[self.teacher_level].detach().float()
        with torch.autocast(target.device.type, enabled=False):
            return self.adapter(student.features[self.level].float()), target

    def _mask(self, student: TrainOutputs) -> Tensor | None:
        if self.mask is None:
            return None
        size = student.features[self.level].shape[-2:]
        if self.mask == 'boxes':
            images = zip(student.boxes, student.image_sizes, strict=True)
            return torch.stack([box_weights(boxes, image_size, size, self.stride) for boxes, image_size in images])
        sizes = [scores.shape[-2:] for scores in student.rpn.cls_scores]
        if size not in sizes:
            raise UserError(f"mask: fine_grained needs anchors, and the RPN does not read the map of '{self.summary}'")
        # The RPN may leave out the first maps.
        level = sizes.index(size)
        anchors = student.rpn.anchors[level]
        num_anchors = anchors.shape[1] // size.numel()
        pairs = zip(anchors, student.boxes, strict=True)
        masks = torch.stack([fine_grained_mask(priors, boxes, size, num_anchors) for priors, boxes in pairs])
        # Anchors in the padding beside a person at the image's edge fit as well; there is nothing to imitate.
        return masks & student.rpn.valid_flags[level].unflatten(1, (*size, num_anchors)).any(dim=3)


def box_weights(boxes: Tensor, image_size: tuple[int, int], size: tuple[int, int], stride: int) -> Tensor:
    """Weights of a map's cells in people's boxes and outside of them (Yang et al., CVPR 2022).

    A box takes the cells that it touches, each with weight 1 over their number; a cell in several boxes has that of the
    smallest. All other cells of the image share the weight 1; cells of padding have none.

    Args:
        boxes: (G, 4) x1, y1, x2, y2 in network input pixels; G may be 0.
        image_size: Height and width of the image without padding, in network input pixels.
        size: Height H and width W of the map.
        stride: Of the map, in pixels.

    Returns:
        (2, H, W): in boxes, outside.
    """
    rows, columns = (torch.arange(n, device=boxes.device) * stride for n in size)
    inside = (rows < image_size[0])[:, None] & (columns < image_size[1])
    x1, y1, x2, y2 = boxes[:, :, None].unbind(dim=1)
    touched = ((rows + stride > y1) & (rows < y2))[:, :, None] & ((columns + stride > x1) & (columns < x2))[:, None]
    touched &= inside
    weights = touched / touched.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    people = torch.cat([weights, weights.new_zeros(1, *size)]).amax(dim=0)
    others = (inside & (people == 0)).float()
    return torch.stack([people, others / others.sum().clamp(min=1)])


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
        if teacher.rpn.known is not None:
            weight = weight * teacher.rpn.known
        return self.loss(*self._logits(student, teacher), weight, student.rpn.avg_factor)

    def distance(self, student: TrainOutputs, teacher: TeacherOutputs) -> Tensor:
        """Mean absolute difference of the sampled anchors' probability to be a person."""
        sampled = torch.cat(student.rpn.label_weights, dim=1).flatten() > 0
        if teacher.rpn.known is not None:
            sampled &= teacher.rpn.known
        own, target = (foreground(logits[sampled]) for logits in self._logits(student, teacher))
        return (own - target).abs().mean()

    def _logits(self, student: TrainOutputs, teacher: TeacherOutputs) -> tuple[Tensor, Tensor]:
        """(N, K) logits of all anchors."""
        target = teacher.rpn.cls_score
        return by_anchor(student.rpn.cls_scores, target.shape[1]), target


class RPNBoxTerm(HeadTerm):
    """A loss between deltas on the positive anchors that the student sampled."""

    def forward(self, student: TrainOutputs, teacher: TeacherOutputs) -> Tensor:
        """Compare the positive anchors' deltas, averaged as the hard loss is."""
        rpn, positive = student.rpn, self._positive(student, teacher)
        deltas, soft = by_anchor(rpn.bbox_preds, 4)[positive], teacher.rpn.bbox_pred[positive]
        targets = torch.cat(rpn.bbox_targets, dim=1).flatten(0, 1)[positive]
        return self.loss(deltas, soft, targets, rpn.avg_factor)

    def distance(self, student: TrainOutputs, teacher: TeacherOutputs) -> Tensor:
        """Mean L2 distance of the positive anchors' deltas."""
        positive = self._positive(student, teacher)
        return mean_distance(by_anchor(student.rpn.bbox_preds, 4)[positive], teacher.rpn.bbox_pred[positive])

    def _positive(self, student: TrainOutputs, teacher: TeacherOutputs) -> Tensor:
        """(P,) indices; a mask would make the host wait for the GPU each time that it is used."""
        positive = torch.cat(student.rpn.bbox_weights, dim=1).flatten(0, 1)[:, 0] > 0
        positive = positive if teacher.rpn.known is None else positive & teacher.rpn.known
        return positive.nonzero().squeeze(1)


class RoIClsTerm(HeadTerm):
    """A loss between class logits on the RoIs that the student sampled."""

    def forward(self, student: TrainOutputs, teacher: TeacherOutputs) -> Tensor:
        """Compare all sampled RoIs about which the teacher says something, averaged as the hard loss is."""
        return self.loss(student.roi.cls_score, teacher.roi.cls_score, teacher.roi.known)

    def distance(self, student: TrainOutputs, teacher: TeacherOutputs) -> Tensor:
        """Mean absolute difference of the RoIs' probability to be a person."""
        own, target = foreground(student.roi.cls_score), foreground(teacher.roi.cls_score)
        difference = (own - target).abs()
        return (difference if teacher.roi.known is None else difference[teacher.roi.known]).mean()


class RoIBoxTerm(HeadTerm):
    """A loss between deltas on the positive RoIs that the student sampled."""

    def forward(self, student: TrainOutputs, teacher: TeacherOutputs) -> Tensor:
        """Compare the positive RoIs, averaged over all sampled ones as the hard loss is."""
        roi, positive = student.roi, self._positive(student, teacher)
        deltas, soft, targets = roi.bbox_pred[positive], teacher.roi.bbox_pred[positive], roi.bbox_targets[positive]
        return self.loss(deltas, soft, targets, len(roi.rois))

    def distance(self, student: TrainOutputs, teacher: TeacherOutputs) -> Tensor:
        """Mean L2 distance of the positive RoIs' deltas."""
        positive = self._positive(student, teacher)
        return mean_distance(student.roi.bbox_pred[positive], teacher.roi.bbox_pred[positive])

    def _positive(self, student: TrainOutputs, teacher: TeacherOutputs) -> Tensor:
        """(P,) indices."""
        positive = student.roi.bbox_weights[:, 0] > 0
        positive = positive if teacher.roi.known is None else positive & teacher.roi.known
        return positive.nonzero().squeeze(1)


HEAD_TERMS = {'rpn.cls': RPNClsTerm, 'rpn.bbox': RPNBoxTerm, 'roi.cls': RoIClsTerm, 'roi.bbox': RoIBoxTerm}


class EmbeddingTerm(nn.Module):
    """A loss between embeddings of people and their rows of a teacher's table.

    Args:
        loss: Config of the loss, ``forward(embeddings, targets, weight)``.
        rows: (L, D) of identities, compared with labelled people; or (2 L, D) of the crops of boxes, see
            :meth:`BoxLUT.crop_rows`, compared with all people.
        of_boxes: Which of both.
        weigh_by_iou: A RoI counts as much as it overlaps its person's true box, which is what the teacher saw.
    """

    rows: Tensor

    def __init__(self, loss: dict, rows: Tensor, of_boxes: bool = False, weigh_by_iou: bool = False) -> None:
        super().__init__()
        self.loss = MODELS.build(loss)
        self.of_boxes, self.weigh_by_iou = of_boxes, weigh_by_iou
        self.register_buffer('rows', rows.clone(), persistent=False)

    def forward(self, student: TrainOutputs, teacher: TeacherOutputs | None) -> Tensor:
        """Compare the positive RoIs' embeddings with the rows of their people."""
        embeddings, targets, overlaps = self._pairs(student)
        return self.loss(embeddings, targets, overlaps if self.weigh_by_iou else None)

    def distance(self, student: TrainOutputs, teacher: TeacherOutputs | None) -> Tensor:
        """Mean cosine distance of the embeddings to their rows."""
        embeddings, targets, _ = self._pairs(student)
        return 1 - (embeddings * targets).sum(dim=1).mean()

    def _pairs(self, student: TrainOutputs) -> tuple[Tensor, Tensor, Tensor]:
        roi = student.roi
        if self.of_boxes and roi.crops is None:
            raise UserError(
                'a table of boxes needs their numbers: end the training pipeline with PackPersonSearchInputs'
            )
        index = roi.crops if self.of_boxes else roi.pids
        known = (index >= 0).nonzero().squeeze(1)
        return roi.embeddings[known], self.rows[index[known]], roi.overlaps[known]


class TeacherEmbeddingTerm(nn.Module):
    """A loss between embeddings of the same RoIs by the student and by a teacher that identifies too.

    Args:
        loss: Config of the loss, ``forward(embeddings, targets)``.
        dims: Sizes of the student's and of the teacher's embeddings.

    Raises:
        UserError: If the loss cannot compare vectors of these sizes.
    """

    def __init__(self, loss: dict, dims: tuple[int, int]) -> None:
        super().__init__()
        self.loss = MODELS.build(loss)
        try:
            copy.deepcopy(self.loss)(*(torch.eye(2, dim) for dim in dims))
        except RuntimeError as error:
            raise UserError(
                f'{type(self.loss).__name__} cannot compare embeddings of {dims[0]} dimensions with the '
                f"teacher's of {dims[1]}: {str(error).splitlines()[0]}"
            ) from None

    def forward(self, student: TrainOutputs, teacher: TeacherOutputs) -> Tensor:
        """Compare the positive RoIs' embeddings."""
        # Those of query images, behind them in QEEPS, are not seen by the teacher.
        return self.loss(student.roi.embeddings[: len(teacher.embeddings)], teacher.embeddings)

    def distance(self, student: TrainOutputs, teacher: TeacherOutputs) -> Tensor:
        """Mean absolute difference of the similarities of all pairs, which needs no common space."""
        own, taught = student.roi.embeddings[: len(teacher.embeddings)], teacher.embeddings
        return (own @ own.t() - taught @ taught.t()).abs().mean()


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


def outputs_of_boxes(
    priors: Sequence[Tensor], people: InstanceList, coder: BaseBBoxCoder, num_logits: int
) -> HeadOutputs:
    """Turn a detector's boxes into what its head would say about anchors or RoIs.

    A prior that overlaps a detection by an IoU of at least 0.5 has its score as the probability of a person, and the
    deltas to its box; of several detections, the one that it overlaps most, then the first. Nothing is said about
    other priors.

    Args:
        priors: (N, 4) anchors or RoIs of each image.
        people: Detections of each image, ``bboxes`` (M, 4) and ``scores`` (M,).
        coder: The student's, for the deltas.
        num_logits: Logits a prior: 1 for sigmoid, 2 for softmax.
    """
    scores, deltas, known = [], [], []
    for boxes, found in zip(priors, people, strict=True):
        # A box without extent and score stands for no detection.
        targets = torch.cat([found.bboxes, boxes.new_zeros(1, 4)])
        overlap, index = bbox_overlaps(boxes, targets).max(dim=1)
        known.append(overlap >= MIN_OVERLAP)
        scores.append(torch.cat([found.scores, boxes.new_zeros(1)])[index])
        deltas.append(coder.encode(boxes, torch.where(known[-1][:, None], targets[index], boxes)))
    logits = torch.cat(scores).logit(eps=1e-4)[:, None]
    if num_logits == 2:
        logits = torch.cat([logits, torch.zeros_like(logits)], dim=1)
    return HeadOutputs(logits, torch.cat(deltas), torch.cat(known))


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
