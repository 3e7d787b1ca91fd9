"""Gradient norms and gaps: hand-computed values, and an independent backward pass."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmps_kd.models.distillers import Diagnostics
from mmps_kd.models.distillers.diagnostics import gradient_norms
from mmps_kd.models.distillers.teacher import FeatureLevel
from mmps_kd.models.distillers.terms import (
    EmbeddingTerm,
    FeatureTerm,
    HeadOutputs,
    RoIBoxTerm,
    RoIClsTerm,
    RPNBoxTerm,
    RPNClsTerm,
    TeacherOutputs,
)

PEOPLE = [([[10, 8, 40, 88], [60, 20, 90, 92]], [3, -1]), ([[20, 10, 50, 90]], [0])]
NEAR = dict(adapter='conv3x3_relu', mask='fine_grained', loss=dict(type='FeatureImitationLoss', mode='fine_grained'))
TERMS = [
    dict(at='backbone.0', loss=dict(type='FeatureImitationLoss')),
    dict(at='backbone.0', name='near', **NEAR),
    dict(at='rpn.cls', loss=dict(type='LogitDistillationLoss')),
    dict(at='rpn.bbox', loss=dict(type='BoundedRegressionLoss')),
    dict(at='roi.cls', loss=dict(type='LogitDistillationLoss')),
    dict(at='roi.bbox', loss=dict(type='BoundedRegressionLoss')),
]


@pytest.fixture
def distiller(build_model, model_cfg, tmp_path):
    """A distiller whose teacher has the student's config and other weights."""
    Config(dict(model=model_cfg)).dump(tmp_path / 'teacher.py')
    torch.save(dict(state_dict=build_model(seed=7).state_dict(), meta={}), tmp_path / 'teacher.pth')
    teacher = dict(config=str(tmp_path / 'teacher.py'), checkpoint=str(tmp_path / 'teacher.pth'))
    return build_model(type='PersonSearchDistiller', teacher=teacher, distillation=TERMS)


def losses_of(model, batch):
    torch.manual_seed(5)
    oim = model.roi_head.reid_head.loss_oim
    for rows in (oim.lut, oim.queue):
        rows.copy_(nn.functional.normalize(torch.randn(rows.shape), dim=1))
    return model(**model.data_preprocessor(batch, training=True), mode='loss')


def test_norms_by_hand():
    x, y = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([3.0], requires_grad=True)
    losses = dict(
        loss_sum=3 * x.sum() + 4 * y.sum(),  # gradient (3, 3), (4)
        loss_levels=[x[0] ** 2, 2 * x[1]],  # (2, 2) and nothing on y
        loss_nothing=0 * y.sum(),
        acc=x.sum(),
    )
    norms = gradient_norms(losses, [x, y])
    assert {name: norm.item() for name, norm in norms.items()} == pytest.approx(
        dict(loss_sum=34**0.5, loss_levels=8**0.5, loss_nothing=0.0)
    )
    assert x.grad is None
    losses['loss_sum'].backward()
    assert x.grad.tolist() == [3, 3]


def test_a_loss_that_reaches_frozen_maps_alone():
    frozen, map_, weight = torch.ones(2), torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    norms = gradient_norms(dict(loss_rpn=map_.sum(), loss_oim=(frozen * weight).sum()), [frozen, map_])
    assert norms['loss_rpn'].item() == pytest.approx(2**0.5)
    assert norms['loss_oim'].item() == 0


def test_a_frozen_backbone_has_no_norms():
    head = torch.ones(2, requires_grad=True)
    assert gradient_norms(dict(loss=head.sum()), [torch.ones(2)]) == {}


def test_small_gradients_in_half_precision_need_the_loss_scale():
    x = torch.full((2**16,), 2.0**-10, dtype=torch.half, requires_grad=True)
    losses = dict(loss=x.float().square().mean())
    expected = 2**-25 * 2**8  # 2^-25 for each of 2^16 elements, below what half precision can hold
    assert gradient_norms(losses, [x])['loss'].item() == 0
    assert gradient_norms(losses, [x], loss_scale=2.0**16)['loss'].item() == expected


def test_norms_are_those_of_a_backward_pass_of_each_loss(distiller, make_batch):
    distiller.diagnostics = Diagnostics()
    names = [name for name in losses_of(distiller, make_batch(PEOPLE)) if 'loss' in name]
    measured = distiller.diagnostics.grad_norms
    assert list(measured) == names
    assert len(names) == 5 + len(TERMS)

    maps, extract = [], distiller.extract_feat

    def keep(inputs):
        maps[:] = extract(inputs)
        maps[0].retain_grad()
        return tuple(maps)

    distiller.extract_feat, distiller.diagnostics = keep, None
    for name in names:
        term = losses_of(distiller, make_batch(PEOPLE))[name]
        (sum(term) if isinstance(term, list) else term).backward()
        assert measured[name].item() == pytest.approx(maps[0].grad.norm().item(), rel=1e-5), name
        assert measured[name] > 0, name


def test_its_own_teacher_is_no_distance_away(distiller, make_batch):
    distiller.load_state_dict(distiller.teacher.model.state_dict(), strict=False)
    distiller.distillation[1].adapter = nn.Identity()  # random weights otherwise
    distiller.diagnostics = Diagnostics()
    losses_of(distiller.eval(), make_batch(PEOPLE))
    gaps = {name: gap.item() for name, gap in distiller.diagnostics.distances.items()}
    assert gaps == pytest.approx(dict.fromkeys(['backbone.0', 'near', 'rpn.cls', 'rpn.bbox', 'roi.cls', 'roi.bbox'], 0))


def test_norms_and_gaps_are_those_of_fp32_under_autocast():
    level = FeatureLevel('backbone.0', channels=4, stride=16)
    term = FeatureTerm(dict(type='FeatureImitationLoss'), level, level, adapter='conv3x3_relu')
    generator = torch.Generator().manual_seed(0)
    x, theirs = torch.randn(2, 1, 4, 5, 5, generator=generator)
    student, teacher = SimpleNamespace(features=(x.requires_grad_(),)), TeacherOutputs((theirs,))
    linear = x.flatten(1) @ torch.randn(100, 3, generator=generator)
    losses = dict(loss_hint=term(student, teacher), loss_linear=linear.square().sum())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        measured = gradient_norms(losses, student.features), term.distance(student, teacher)
    assert measured == (gradient_norms(losses, student.features), term.distance(student, teacher))


@pytest.mark.parametrize('mode', ['hint', 'fine_grained'])
def test_feature_gap(mode):
    level = FeatureLevel('backbone.0', channels=2, stride=16)
    term = FeatureTerm(
        dict(type='FeatureImitationLoss', mode=mode), level, level, mask=None if mode == 'hint' else mode
    )
    theirs = torch.tensor([[3.0, 0.0], [4.0, 12.0]]).reshape(1, 2, 1, 2)  # cells (3, 4) and (0, 12)
    ours = torch.tensor([[3.0, 0.0], [4.0, 0.0]]).reshape(1, 2, 1, 2)
    # One anchor a cell, a person in the second one.
    anchors = [torch.tensor([[[0.0, 0, 16, 16], [16, 0, 32, 16]]])]
    rpn = SimpleNamespace(
        cls_scores=[torch.zeros(1, 1, 1, 2)], anchors=anchors, valid_flags=[torch.ones(1, 2, dtype=torch.bool)]
    )
    student = SimpleNamespace(features=(ours,), rpn=rpn, boxes=[torch.tensor([[16.0, 0, 32, 16]])])
    gap = term.distance(student, TeacherOutputs((theirs,)))
    assert gap.item() == pytest.approx(12 / 13 if mode == 'hint' else 1)
    student.boxes = [torch.zeros(0, 4)]
    assert term.distance(student, TeacherOutputs((theirs,))).isnan() == (mode == 'fine_grained')


def rpn_outputs(cls_scores, bbox_preds, sampled, positive):
    """One image, one anchor in each of three cells."""
    return SimpleNamespace(
        cls_scores=[torch.tensor(cls_scores).reshape(1, 1, 1, 3)],
        bbox_preds=[torch.tensor(bbox_preds).t().reshape(1, 4, 1, 3)],
        label_weights=[torch.tensor([sampled])],
        bbox_weights=[torch.tensor([positive]).reshape(1, 3, 1).expand(1, 3, 4)],
    )


def test_rpn_gaps():
    ours = rpn_outputs([0.0, 0.0, 9.0], [[0.0] * 4, [1.0] * 4, [0.0] * 4], [1.0, 1.0, 0.0], [1.0, 1.0, 0.0])
    log3 = torch.tensor(3.0).log().item()  # a probability of 3/4
    theirs = HeadOutputs(torch.tensor([[0.0], [log3], [0.0]]), torch.tensor([[3.0, 4, 0, 0], [1.0] * 4, [9.0] * 4]))
    student, teacher = SimpleNamespace(rpn=ours), TeacherOutputs(rpn=theirs)
    assert RPNClsTerm(dict(type='LogitDistillationLoss')).distance(student, teacher).item() == pytest.approx(
        (0 + 1 / 4) / 2
    )
    assert RPNBoxTerm(dict(type='BoundedRegressionLoss')).distance(student, teacher).item() == pytest.approx(
        (5 + 0) / 2
    )


def test_roi_gaps():
    log3 = torch.tensor(3.0).log().item()
    roi = SimpleNamespace(
        cls_score=torch.zeros(2, 2), bbox_pred=torch.zeros(2, 4), bbox_weights=torch.tensor([[1.0] * 4, [0.0] * 4])
    )
    student = SimpleNamespace(roi=roi)
    theirs = HeadOutputs(torch.tensor([[log3, 0.0], [0.0, log3]]), torch.tensor([[0.0, 0, 5, 12], [9.0] * 4]))
    teacher = TeacherOutputs(roi=theirs)
    cls, box = RoIClsTerm(dict(type='LogitDistillationLoss')), RoIBoxTerm(dict(type='BoundedRegressionLoss'))
    assert cls.distance(student, teacher).item() == pytest.approx(1 / 4)
    assert box.distance(student, teacher).item() == pytest.approx(13)
    roi.bbox_weights = torch.zeros(2, 4)
    assert box.distance(student, teacher).isnan()


def test_embedding_gap():
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    embeddings = torch.tensor([[0.6, 0.8], [0.6, 0.8], [1.0, 0.0]])
    roi = SimpleNamespace(embeddings=embeddings, pids=torch.tensor([0, 1, -1]), overlaps=torch.ones(3))
    gap = EmbeddingTerm(dict(type='IDFeatureLoss'), rows).distance(SimpleNamespace(roi=roi), None)
    assert gap.item() == pytest.approx((0.4 + 0.2) / 2)
