"""A teacher is compared with its student when the model is built: what fits is paired, the rest is one error."""

import copy
import re

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import nn

from mmps_kd.engine.hooks.visualization_hook import draw_distillation
from mmps_kd.errors import UserError
from mmps_kd.models.distillers.diagnostics import Diagnostics

PEOPLE = [([[10, 8, 40, 88], [60, 20, 90, 92]], [3, -1]), ([[20, 10, 50, 90]], [0])]
LOSSES = dict(cls=dict(type='LogitDistillationLoss'), bbox=dict(type='BoundedRegressionLoss'))
HEADS = ['rpn.cls', 'rpn.bbox', 'roi.cls', 'roi.bbox']
SOFTMAX = dict(type='CrossEntropyLoss', use_sigmoid=False)


def terms(*locations):
    """One loss at each location."""
    hint = dict(type='FeatureImitationLoss')
    return [dict(at=at, loss=LOSSES.get(at.split('.')[1], hint)) for at in locations]


def small(cfg):
    """Make a config of mmdet's feature pyramids run in milliseconds."""
    cfg.backbone.update(depth=18, base_channels=8, stem_channels=8, init_cfg=None, frozen_stages=-1)
    cfg.neck.update(in_channels=[8, 16, 32, 64], out_channels=8)
    heads = [cfg.get('rpn_head'), cfg.get('bbox_head')]
    if 'roi_head' in cfg:
        cfg.roi_head.bbox_roi_extractor.out_channels = 8
        box_heads = cfg.roi_head.bbox_head
        heads += box_heads if isinstance(box_heads, list) else [box_heads, cfg.roi_head.get('reid_head')]
    for head in filter(None, heads):
        head.in_channels = 8
        head.update(dict(fc_out_channels=8) if 'fc_out_channels' in head else {})
        head.update(dict(feat_channels=8) if 'feat_channels' in head else {})
    return cfg


def changed(model, changes):
    """A copy of a model's config; ``changes`` are given as dotted keys."""
    cfg = Config(dict(model=copy.deepcopy(model)))
    cfg.merge_from_dict({f'model.{key}': value for key, value in changes.items()})
    if cfg.model.get('roi_head', {}).get('reid_head', 0) is None:
        del cfg.model.roi_head.reid_head
    return cfg.model


@pytest.fixture
def distil(model_cfg, build_model, write_teacher):
    """Build the small student with a teacher that differs from it by ``changes``."""

    def build(*locations, student=None, teacher=None, **changes):
        cfg = changed(model_cfg, changes)
        torch.manual_seed(7)
        files = {**write_teacher(cfg, MODELS.build(cfg)), **(teacher or {})}
        distiller = dict(type='PersonSearchDistiller', teacher=files, distillation=terms(*locations))
        return build_model(**{**changed(model_cfg, student or {}), **distiller})

    return build


@pytest.fixture
def distil_fpn(repo_root, write_teacher, tmp_path):
    """Build a small student on a feature pyramid with a teacher of mmdet's base config."""

    def build(*locations, base, teacher=None, **changes):
        (tmp_path / 'base.py').write_text(f"_base_ = 'mmdet::_base_/models/{base}.py'")
        cfg = changed(small(Config.fromfile(tmp_path / 'base.py').model), changes)
        torch.manual_seed(7)
        files = {**write_teacher(cfg, MODELS.build(cfg)), **(teacher or {})}
        student = small(Config.fromfile(repo_root / 'configs/_base_/models/person-search_r50-fpn.py').model)
        student.roi_head.reid_head.loss_oim.update(num_identities=6, queue_size=10)
        student.update(type='PersonSearchDistiller', teacher=files, distillation=terms(*locations))
        return MODELS.build(student)

    return build


# A head for several classes is mmdet's: a person search has one.
DETECTOR = {'type': 'FasterRCNN', 'roi_head.type': 'StandardRoIHead', 'roi_head.reid_head': None}


def refusal(build, *locations, **changes):
    """Header and lines of the error."""
    with pytest.raises(UserError) as refused:
        build(*locations, **changes)
    header, *lines = str(refused.value).splitlines()
    return header, [line.rstrip(';') for line in lines]


def step(model, batch):
    losses = model(**model.data_preprocessor(copy.deepcopy(batch), training=True), mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    return losses


def test_many_classes(distil, make_batch):
    many = {**DETECTOR, 'roi_head.bbox_head.num_classes': 80, 'roi_head.bbox_head.reg_class_agnostic': False}
    header, lines = refusal(distil, 'backbone.0', *HEADS, **many)
    assert header.startswith('teacher teacher.py (FasterRCNN) cannot be compared with the student')
    which = 'the teacher has 80 classes: say by person_class=... which of them people are'
    assert lines == [f'roi.cls: {which}', f'roi.bbox: {which}']
    step(distil('backbone.0', 'rpn.cls', 'rpn.bbox', **many), make_batch(PEOPLE))
    with pytest.raises(UserError, match=r'has classes 0 to 79: person_class=80$'):
        distil('backbone.0', teacher=dict(person_class=80), **many)


@pytest.mark.parametrize('person', [0, 7])
@pytest.mark.parametrize('class_agnostic', [True, False])
def test_people_of_many_classes(distil, make_batch, person, class_agnostic):
    """A detector of COCO answers for the student's RoIs as its softmax over all classes does."""
    many = {**DETECTOR, 'roi_head.bbox_head.num_classes': 80, 'roi_head.bbox_head.reg_class_agnostic': class_agnostic}
    model = distil('backbone.0', *HEADS, teacher=dict(person_class=person), **many)
    distilled = {name for name in step(model, make_batch(PEOPLE)) if name.startswith('distill/')}
    assert distilled == {f'distill/loss_{at}' for at in ('backbone.0', *HEADS)}
    x = (torch.randn(1, 32, 24, 32),)
    rois = torch.tensor([[0.0, 10, 8, 40, 88], [0, 60, 20, 90, 92]])
    logits, deltas = model.teacher.forward_rois(x, rois)
    every = model.teacher.model.roi_head._bbox_forward(x, rois)
    expected = every['cls_score'].softmax(dim=1)[:, person]
    assert torch.allclose(logits.softmax(dim=1)[:, 0], expected, atol=1e-7)
    of_person = every['bbox_pred'] if class_agnostic else every['bbox_pred'].unflatten(1, (80, 4))[:, person]
    assert torch.equal(deltas, of_person)


# The student's: strides [8], scales [4, 6, 9, 13], ratio 2.5.
ANCHORS = 'rpn_head.anchor_generator'
STDS = [0.2, 0.2, 0.4, 0.4]


@pytest.mark.parametrize(
    ('changes', 'locations', 'line'),
    [
        ({f'{ANCHORS}.scales': [13, 9, 6, 4]}, HEADS[:2], r"student's anchor 0 of level 0 is \[-10.1, -25.3, 10.1, 2"),
        ({f'{ANCHORS}.center_offset': 0.5}, HEADS[:2], r"the teacher's \[-6.1, -21.3, 14.1, 29.3\] \(x1, y1, x2"),
        ({f'{ANCHORS}.ratios': [2.0]}, HEADS[:2], 'anchor 0 of level 0'),
        ({f'{ANCHORS}.scales': [4, 6, 9]}, HEADS[:2], 'the student has 4 anchors a cell in level 0, the teacher 3'),
        ({f'{ANCHORS}.strides': [4]}, HEADS[:2], r"the teacher's \[-5.1, -12.6, 5.1, 12.6\]"),
        ({'rpn_head.loss_cls': SOFTMAX}, HEADS[:1], r'1 logits an anchor \(sigmoid\), the teacher 2 .*softmax'),
        ({'rpn_head.bbox_coder.target_stds': STDS}, HEADS[1:2], r'stds=\[1.0, .*teacher .*stds=\[0.2, 0.2, 0.4, 0.4\]'),
        ({'roi_head.bbox_head.loss_cls.use_sigmoid': True}, HEADS[2:3], 'softmax.*sigmoid'),
        ({**DETECTOR, 'roi_head.bbox_head.num_classes': 2}, HEADS[2:], '2 classes: say by person_class'),
        ({'roi_head.bbox_head.bbox_coder.target_stds': STDS}, HEADS[3:], r'stds=\[0.1, 0.1, 0.2, 0.2\], the .*\[0.2'),
        (
            {'roi_head.bbox_head.bbox_coder.target_means': [0, 0, 0, 1]},
            HEADS[3:],
            r'teacher .*means=\[0.0, 0.0, 0.0, 1',
        ),
        ({'roi_head.bbox_head.bbox_coder.type': 'LegacyDeltaXYWHBBoxCoder'}, HEADS[3:], 'teacher deltas of Legacy'),
    ],
)
def test_what_the_numbers_of_a_head_mean(distil, changes, locations, line):
    _, lines = refusal(distil, 'backbone.0', *HEADS, **changes)
    assert [finding.split(':')[0] for finding in lines] == locations
    for finding in lines:
        assert re.search(line, finding), finding


@pytest.mark.parametrize(
    'changes',
    [
        # The same anchors, stated in another way.
        {f'{ANCHORS}.scales': [2, 3, 4.5, 6.5], f'{ANCHORS}.base_sizes': [16]},
        # The same number of deltas, class-specific of one class.
        {'roi_head.bbox_head.reg_class_agnostic': False},
        # What only clips decoded boxes, or reads features in the teacher's own way.
        {'roi_head.bbox_head.bbox_coder.clip_border': False},
        {'roi_head.bbox_head.fc_out_channels': 24, 'roi_head.bbox_roi_extractor.roi_layer.sampling_ratio': 1},
    ],
)
def test_what_may_differ(distil, changes):
    assert len(distil('backbone.0', *HEADS, **changes).distillation) == 5


def test_all_findings_are_in_one_error_one_line_for_each_location(distil):
    changes = {**DETECTOR, f'{ANCHORS}.scales': [4, 6, 9], 'roi_head.bbox_head.num_classes': 3}
    _, lines = refusal(distil, 'rpn.bbox', 'rpn.cls', 'roi.cls', **changes)
    assert [line.split(':')[0] for line in lines] == ['rpn.bbox', 'rpn.cls', 'roi.cls']


def test_a_student_that_learns_boxes(distil):
    student = {'roi_head.bbox_head.reg_decoded_bbox': True, 'roi_head.bbox_head.loss_bbox': dict(type='GIoULoss')}
    _, lines = refusal(distil, *HEADS, student=student)
    assert [line.split(',')[0] for line in lines] == [
        "roi.bbox: the student's Shared2FCBBoxHead learns boxes (reg_decoded_bbox=True)"
    ]


def test_softmax_objectness_on_both_sides(distil, make_batch):
    student = {'rpn_head.loss_cls': SOFTMAX}
    model = distil('rpn.cls', 'rpn.bbox', student=student, **student)
    model.load_state_dict(model.teacher.model.state_dict(), strict=False)
    model.distillation[0].loss.mode = 'kl'
    model.diagnostics = Diagnostics()
    losses = step(model.eval(), make_batch(PEOPLE))
    assert losses['distill/loss_rpn.cls'].item() == pytest.approx(0, abs=1e-6)
    assert model.diagnostics.distances['rpn.cls'].item() == pytest.approx(0, abs=1e-6)


def test_building_changes_no_statistics_of_the_student(distil, build_model):
    model, plain = distil('backbone.0', *HEADS), build_model()
    assert model.training
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in plain.state_dict().items())


def test_a_one_stage_teacher(distil_fpn, make_batch):
    retina = dict(base='retinanet_r50_fpn')
    # Strides 8 to 64 are the teacher's first four levels, the student's last four.
    model = distil_fpn('neck.1', 'neck.2', 'neck.3', 'neck.4', **retina)
    assert [(term.level, term.teacher_level) for term in model.distillation] == [(1, 0), (2, 1), (3, 2), (4, 3)]
    step(model, make_batch(PEOPLE))
    header, lines = refusal(distil_fpn, 'neck.0', 'neck.1', *HEADS, **retina)
    assert '(RetinaNet)' in header
    none = "(it has bbox_head RetinaHead); set answers='boxes' of the teacher to compare its detections"
    which = 'the teacher has 80 classes: say by person_class=... which of them people are'
    assert lines == [
        "neck.0: the student's map has stride 4, the teacher's have 8, 16, 32, 64, 128",
        f"rpn.cls: the student's rpn_head is SampledRPNHead, the teacher's none {none}",
        f"rpn.bbox: the student's rpn_head is SampledRPNHead, the teacher's none {none}",
        f'roi.cls: {which}',
        f'roi.bbox: {which}',
    ]
    _, lines = refusal(distil_fpn, *HEADS, teacher=dict(person_class=0), **retina)
    heads = ['rpn_head is SampledRPNHead'] * 2 + ['roi_head is ReIDRoIHead'] * 2
    assert lines == [
        f"{at}: the student's {own}, the teacher's none {none}" for at, own in zip(HEADS, heads, strict=True)
    ]


@pytest.mark.parametrize('base', ['retinanet_r50_fpn', 'cascade-rcnn_r50_fpn', 'faster-rcnn_r50_fpn'])
def test_teaching_by_boxes(distil_fpn, make_batch, base):
    """Whatever detects people answers at every head, and its features teach beside."""
    by_boxes = dict(person_class=0, answers='boxes')
    model = distil_fpn('neck.1', *HEADS, base=base, teacher=by_boxes)
    # Untrained, its scores are low, and no box is good: it detects the people's true boxes instead.
    samples = make_batch(PEOPLE)['data_samples']
    people = [
        InstanceData(bboxes=s.gt_instances.bboxes, scores=torch.full((len(s.gt_instances),), 0.75)) for s in samples
    ]
    seen = model.teacher.detect_people(torch.zeros(2, 3, 192, 256), samples)
    assert all(found.bboxes.shape == (len(found.scores), 4) for found in seen)
    model.teacher.detect_people = lambda inputs, samples: people
    losses = step(model, make_batch(PEOPLE))
    distilled = {name: value for name, value in losses.items() if name.startswith('distill/')}
    assert len(distilled) == 5 and all(value > 0 for value in distilled.values())


def test_the_picture_of_a_one_stage_teacher(distil_fpn, make_batch):
    model, batch = distil_fpn('neck.1', base='retinanet_r50_fpn').eval(), make_batch(PEOPLE)
    (output, *_) = model.val_step(copy.deepcopy(batch))
    picture = draw_distillation(model, np.full((192, 256, 3), 90, np.uint8), batch, output, 0.9)
    assert picture.shape[1] > 3 * 800  # teacher, student and the difference at neck.1


def test_a_cascade(distil_fpn, make_batch):
    cascade = dict(base='cascade-rcnn_r50_fpn')
    _, lines = refusal(distil_fpn, 'neck.0', *HEADS, teacher=dict(person_class=0), **cascade)
    assert lines == [
        f"{location}: the student's roi_head is ReIDRoIHead, the teacher's CascadeRoIHead; "
        "set answers='boxes' of the teacher to compare its detections"
        for location in HEADS[2:]
    ]
    step(distil_fpn('neck.0', 'neck.4', 'rpn.cls', 'rpn.bbox', **cascade), make_batch(PEOPLE))


def test_four_levels_against_five(distil_fpn, make_batch):
    four = {
        'base': 'faster-rcnn_r50_fpn',
        'neck.num_outs': 4,
        'rpn_head.anchor_generator.strides': [4, 8, 16, 32],
        'roi_head.bbox_head.num_classes': 1,
    }
    _, lines = refusal(distil_fpn, 'neck.3', 'neck.4', *HEADS, **four)
    levels = "the student's RPN has levels of stride 4, 8, 16, 32, 64, the teacher's of stride 4, 8, 16, 32"
    assert lines == [
        "neck.4: the student's map has stride 64, the teacher's have 4, 8, 16, 32",
        f'rpn.cls: {levels}',
        f'rpn.bbox: {levels}',
    ]
    step(distil_fpn('neck.3', 'roi.cls', 'roi.bbox', **four), make_batch(PEOPLE))


@MODELS.register_module(force=True)
class RoundingDown(BaseModule):
    """A backbone of stride 8 that leaves out the last cell where the width is no multiple of 8."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 8, stride=8)

    def forward(self, x):
        return (self.conv(x),)


@MODELS.register_module(force=True)
class EvenOnly(RoundingDown):
    """A backbone that cannot read images of odd width."""

    def forward(self, x):
        return (self.conv(x) + 0 * (x[..., ::2] - x[..., 1::2]).mean(),)


@pytest.mark.parametrize(
    ('backbone', 'message'),
    [
        ('RoundingDown', "backbone.0: the student's map has 48x49 cells, the teacher's 48x48"),
        (
            'EvenOnly',
            r'cannot read an image of 384x385 pixels \(.*the student pads to a multiple of 1, set pad_size_div',
        ),
    ],
)
def test_images_of_any_width(write_teacher, build_model, backbone, message):
    cfg = dict(
        type='SingleStageDetector',
        backbone=dict(type=backbone),
        bbox_head=dict(type='RetinaHead', num_classes=1, in_channels=4, feat_channels=4, stacked_convs=1),
        data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=8),
    )
    student = dict(
        type='PersonSearchDistiller', teacher=write_teacher(cfg, MODELS.build(cfg)), distillation=terms('backbone.0')
    )
    build_model(**student)  # pads to a multiple of 32
    pad = dict(type='DetDataPreprocessor', pad_size_divisor=1)
    with pytest.raises(UserError, match=message):
        build_model(**student, data_preprocessor=pad)


def test_a_query_guided_teacher(build_model, model_cfg, qeeps_cfg, write_teacher, make_batch):
    # The fixture has changed the config in place.
    student = copy.deepcopy(dict(model_cfg, type='PersonSearchDistiller'))
    student.pop('qrpn'), student.pop('qsim_net')
    student['backbone'].pop('qsse')
    student['backbone']['type'] = 'ResNet'
    student['data_preprocessor'] = dict(qeeps_cfg['data_preprocessor']['data_preprocessor'])
    student.update(teacher=write_teacher(qeeps_cfg, MODELS.build(qeeps_cfg)), distillation=terms('backbone.0', *HEADS))
    step(MODELS.build(student), make_batch(PEOPLE))
