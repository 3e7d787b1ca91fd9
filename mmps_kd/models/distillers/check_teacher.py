"""Check, when the model is built, that a teacher can be compared with the student at the configured locations."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.structures.bbox import get_box_tensor
from torch import Tensor, nn

from mmps_kd.errors import UserError

from ..detectors.person_search_rcnn import PersonSearchRCNN
from .detection_file import DetectionFile
from .reid_network import ReIDTeacher
from .teacher import DetectorTeacher, FeatureLevel, blank_image_features, feature_levels
from .terms import HEAD_TERMS

# Corners of the same anchor, in pixels: configs state scales in several ways, which round differently.
SAME_ANCHOR = 0.01


@torch.no_grad()
def check_teacher(
    student: PersonSearchRCNN, teacher: DetectorTeacher | DetectionFile | ReIDTeacher | None, locations: Sequence[str]
) -> dict[str, tuple[FeatureLevel, FeatureLevel]]:
    """Compare what student and teacher give at each location, on one blank image.

    A feature map is compared with the teacher's map of the same stride; the n-th of a stride with the n-th. A head's
    answers are compared number by number, so both must mean the same: anchors, logits, and how deltas are encoded.

    Args:
        student: The student.
        teacher: Its teacher; None if none is configured.
        locations: Where a loss compares them: feature maps and the keys of ``HEAD_TERMS``.

    Returns:
        For each feature map among ``locations``, the student's level and the teacher's.

    Raises:
        UserError: If the student lacks a location, there is no teacher, it cannot read the student's images, or
            something differs: one line for each location and difference, with what both sides have.
    """
    # A size that the student pads to: the width divides by no more than that, so that maps are rounded as in training.
    preprocessor = student.data_preprocessor
    divisor = getattr(getattr(preprocessor, 'data_preprocessor', preprocessor), 'pad_size_divisor', 1)
    height = -(-384 // divisor) * divisor
    size = (height, height + divisor)
    training = student.training
    ours = blank_image_features(student.eval(), size)
    levels = {level.name: level for level in feature_levels(student, ours, height)}
    for location in locations:
        if location not in levels and location not in HEAD_TERMS:
            there = ', '.join([*map(str, levels.values()), *HEAD_TERMS, 'roi.embedding'])
            raise UserError(f"distillation at '{location}': the student has no such place; there is {there}")
        if teacher is None:
            raise UserError(f"distillation at '{location}' needs a teacher: configure its config and checkpoint")
    if isinstance(teacher, ReIDTeacher):
        raise UserError(
            f"distillation at '{locations[0]}': {teacher.config} is a re-identification network, which can be compared "
            'at roi.embedding alone'
        )
    if isinstance(teacher, DetectionFile):
        if features := [location for location in locations if location not in HEAD_TERMS]:
            raise UserError(
                f"distillation at '{features[0]}': {teacher.config} is a file of detections, which has no features; it "
                f'can be compared at {", ".join(HEAD_TERMS)}'
            )
        return {}
    model, name = teacher.model, f'teacher {teacher.config} ({type(teacher.model).__name__})'
    try:
        theirs = blank_image_features(model, size)
    except RuntimeError as error:
        raise UserError(
            f'{name} cannot read an image of {size[0]}x{size[1]} pixels ({str(error).splitlines()[0]}): the student '
            f"pads to a multiple of {divisor}, set pad_size_divisor of its data_preprocessor to the teacher's"
        ) from None
    their_levels = feature_levels(model, theirs, height)

    pairs, findings = {}, []
    for location in dict.fromkeys(locations):
        if location in HEAD_TERMS:
            differences = head_differences(location, student, teacher, ours, theirs)
        else:
            level = levels[location]
            earlier = [other for other in levels.values() if other.stride == level.stride].index(level)
            same_stride = [other for other in their_levels if other.stride == level.stride][earlier:]
            differences = level_differences(level, same_stride, their_levels, ours, theirs)
            pairs[location] = (level, *same_stride[:1])
        findings += [f'{location}: {difference}' for difference in differences]
    if findings:
        raise UserError(
            f'{name} cannot be compared with the student; take these out of distillation or take another teacher:\n'
            + ';\n'.join(findings)
        )
    student.train(training)
    return pairs


def level_differences(
    level: FeatureLevel,
    same_stride: list[FeatureLevel],
    their_levels: list[FeatureLevel],
    ours: tuple[Tensor, ...],
    theirs: tuple[Tensor, ...],
) -> Iterator[str]:
    """Why a feature map has no partner: the teacher has none of its stride, or rounds sizes otherwise."""
    if not same_stride:
        strides = ', '.join(str(other.stride) for other in their_levels)
        yield f"the student's map has stride {level.stride}, the teacher's have {strides}"
    elif (size := ours[level.index].shape[2:]) != (other := theirs[same_stride[0].index].shape[2:]):
        yield f"the student's map has {size[0]}x{size[1]} cells, the teacher's {other[0]}x{other[1]}"


def head_differences(
    location: str,
    student: PersonSearchRCNN,
    teacher: DetectorTeacher,
    ours: tuple[Tensor, ...],
    theirs: tuple[Tensor, ...],
) -> Iterator[str]:
    """How the answers of two heads at ``rpn.cls``, ``rpn.bbox``, ``roi.cls`` or ``roi.bbox`` differ."""
    stage, answer = location.split('.')
    if teacher.person_class is None and (stage == 'roi' or teacher.answers == 'boxes'):
        yield f'the teacher has {teacher.num_classes} classes: say by person_class=... which of them people are'
        return
    if teacher.answers == 'boxes':
        return
    own, other = (getattr(model, f'{stage}_head', None) for model in (student, teacher.model))
    # Those of other classes (cascades, guided anchors, Sparse R-CNN) do not answer for given anchors or RoIs.
    if not isinstance(other, RPNHead if stage == 'rpn' else StandardRoIHead):
        heads = [
            f'{name} {type(head).__name__}' for name, head in teacher.model.named_children() if name.endswith('head')
        ]
        there = type(other).__name__ if other else f'none (it has {", ".join(heads) or "no heads"})'
        yield (
            f"the student's {stage}_head is {type(own).__name__}, the teacher's {there}; "
            "set answers='boxes' of the teacher to compare its detections"
        )
        return
    if stage == 'rpn':
        yield from anchor_differences(own, other, ours, theirs)
        described = [describe_rpn(head, answer) for head in (own, other)]
    else:
        described = [describe_roi(head, x, answer) for head, x in ((own, ours), (other, theirs))]
        own = own.bbox_head
    for mine, its in zip(*described, strict=True):
        if mine != its:
            yield f'the student has {mine}, the teacher {its}'
    if answer == 'bbox' and own.reg_decoded_bbox:
        yield f"the student's {type(own).__name__} learns boxes (reg_decoded_bbox=True), the loss compares deltas"


def anchor_differences(
    student: RPNHead, teacher: RPNHead, ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]
) -> Iterator[str]:
    """Where the anchors first differ, in level, number or position; they are generated for the feature maps."""
    sizes = [[tuple(x.shape[2:]) for x in maps] for maps in (ours, theirs)]
    generators = [head.prior_generator for head in (student, teacher)]
    if sizes[0] != sizes[1] or generators[0].num_levels != generators[1].num_levels:
        levels = ['stride ' + ', '.join(str(stride[0]) for stride in generator.strides) for generator in generators]
        if levels[0] == levels[1]:
            levels = [', '.join(f'{h}x{w}' for h, w in maps) + ' cells' for maps in sizes]
        yield f"the student's RPN has levels of {levels[0]}, the teacher's of {levels[1]}"
        return
    anchors = [map(get_box_tensor, g.grid_priors(sizes[0], device='cpu')) for g in generators]
    for level, (boxes, others) in enumerate(zip(*anchors, strict=True)):
        if len(boxes) != len(others):
            numbers = [generator.num_base_priors[level] for generator in generators]
            yield f'the student has {numbers[0]} anchors a cell in level {level}, the teacher {numbers[1]}'
            return
        apart = ((boxes - others).abs() > SAME_ANCHOR).any(dim=1).nonzero()
        if len(apart):
            index = int(apart[0])
            box, other = ([round(side, 1) for side in of[index].tolist()] for of in (boxes, others))
            yield f"the student's anchor {index} of level {level} is {box}, the teacher's {other} (x1, y1, x2, y2)"
            return


def describe_rpn(head: RPNHead, answer: str) -> list[str]:
    """What the numbers of an RPN mean, in words that are equal where it is the same."""
    if answer == 'cls':
        return [f'{head.cls_out_channels} logits an anchor ({"sigmoid" if head.use_sigmoid_cls else "softmax"})']
    return [describe_coder(head.bbox_coder)]


def describe_roi(head: StandardRoIHead, x: tuple[Tensor, ...], answer: str) -> list[str]:
    """What the numbers of a box head mean, found by running it on one RoI of the feature maps ``x``.

    Of a head with several classes, it is what :meth:`DetectorTeacher.forward_rois` makes of them.
    """
    rois = x[0].new_tensor([[0, 0, 0, 64, 128]])
    outputs, box_head = head._bbox_forward(x, rois), head.bbox_head
    logits, deltas, number = width(outputs['cls_score']), width(outputs['bbox_pred']), box_head.num_classes
    if answer == 'cls':
        score = 'sigmoid' if getattr(box_head.loss_cls, 'use_sigmoid', False) else 'softmax'
        if logits == str(number + 1):
            return [f'2 logits a RoI (1 class and background, {score})']
        return [f'{logits} logits a RoI ({type(box_head).__name__}, {number} classes, {score})']
    if deltas in ('4', str(4 * number)):
        return ['4 deltas a RoI', describe_coder(box_head.bbox_coder)]
    return [f'{deltas} deltas a RoI ({type(box_head).__name__})', describe_coder(box_head.bbox_coder)]


def width(answer: Tensor | tuple | None) -> str:
    """How many numbers there are for a RoI; heads of other kinds give several tensors, or none."""
    return str(answer.shape[1]) if isinstance(answer, Tensor) else 'no plain'


def describe_coder(coder: nn.Module) -> str:
    """Class and constants of a box coder, without those that only clip decoded boxes."""
    clipping = ('clip_border', 'add_ctr_clamp', 'ctr_clamp', 'use_box_type')
    constants = [f'{k}={np.asarray(v, float).tolist()}' for k, v in vars(coder).items() if k not in clipping]
    return ', '.join([f'deltas of {type(coder).__name__}', *constants])
