"""CrossKD: the teacher's heads on the student's features."""

import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from mmps_kd.errors import UserError

PEOPLE = [([[10, 8, 40, 88], [60, 20, 90, 92]], [3, -1]), ([[20, 10, 50, 90]], [0])]
LOSSES = {
    'rpn.cls': dict(type='LogitDistillationLoss', mode='kl'),
    'rpn.bbox': dict(type='BoundedRegressionLoss'),
    'roi.cls': dict(type='LogitDistillationLoss', mode='kl'),
    'roi.bbox': dict(type='BoundedRegressionLoss'),
}
CROSSED = [dict(at=at, cross=True, loss=loss) for at, loss in LOSSES.items()]


@pytest.fixture
def distiller(build_model, model_cfg, tmp_path):
    """A distiller whose teacher has the student's config, but for what is changed, and the weights of a seed."""

    def build(terms, seed=7, answers='heads', **changes):
        cfg = Config(dict(model=copy.deepcopy(model_cfg)))
        cfg.merge_from_dict(changes)
        cfg.dump(tmp_path / 'teacher.py')
        torch.manual_seed(seed)
        model = MODELS.build(cfg.model)
        model.init_weights()
        torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'teacher.pth')
        teacher = dict(config=str(tmp_path / 'teacher.py'), checkpoint=str(tmp_path / 'teacher.pth'), answers=answers)
        return build_model(type='PersonSearchDistiller', teacher=teacher, distillation=terms)

    return build


def test_the_teachers_heads_answer_on_the_students_features(distiller, make_batch):
    model = distiller(CROSSED)
    batch = model.data_preprocessor(make_batch(PEOPLE), training=True)
    outputs = model.forward_train(batch['inputs'], batch['data_samples'])
    crossed, teacher = model.forward_crossed(outputs), model.teacher.model
    scores, deltas = teacher.rpn_head(outputs.features)
    assert torch.equal(crossed.rpn.cls_scores[0], scores[0])
    assert torch.equal(crossed.rpn.bbox_preds[0], deltas[0])
    answer = teacher.roi_head._bbox_forward(outputs.features, outputs.roi.rois)
    assert torch.equal(crossed.roi.cls_score, answer['cls_score'])
    assert torch.equal(crossed.roi.bbox_pred, answer['bbox_pred'])
    assert crossed.rpn.anchors is outputs.rpn.anchors


@pytest.mark.parametrize('at', ['rpn.cls', 'roi.cls'])
def test_gradients_reach_the_features_and_no_head(distiller, make_batch, at):
    model = distiller([dict(at=at, cross=True, loss=LOSSES[at])])
    losses = model(**model.data_preprocessor(make_batch(PEOPLE), training=True), mode='loss')
    assert losses[f'distill/loss_{at}'] > 0
    losses[f'distill/loss_{at}'].backward()
    assert model.backbone.conv1.weight.grad.abs().sum() > 0
    heads = [*model.rpn_head.parameters(), *model.roi_head.bbox_head.parameters(), *model.teacher.model.parameters()]
    assert all(parameter.grad is None for parameter in heads)


def test_the_students_own_weights_leave_nothing_to_learn(distiller, make_batch):
    model = distiller(CROSSED, seed=0).eval()
    losses = model(**model.data_preprocessor(make_batch(PEOPLE), training=True), mode='loss')
    for at in ('rpn.cls', 'roi.cls'):
        assert losses[f'distill/loss_{at}'].item() == pytest.approx(0, abs=1e-6)


def test_what_cannot_be_crossed(distiller):
    hint = dict(at='backbone.0', cross=True, loss=dict(type='FeatureImitationLoss'))
    with pytest.raises(UserError, match="at 'backbone.0': cross=True is for rpn.cls, rpn.bbox, roi.cls, roi.bbox"):
        distiller([hint])
    with pytest.raises(UserError, match="cross=True is for .* and a teacher's heads"):
        distiller(CROSSED[:1], answers='boxes')
    wide = {'model.backbone.base_channels': 16, 'model.rpn_head.in_channels': 64}
    wide |= {'model.roi_head.bbox_roi_extractor.out_channels': 64, 'model.roi_head.bbox_head.in_channels': 64}
    with pytest.raises(UserError, match="the student's features, which do not fit"):
        distiller(CROSSED[:1], **wide, **{'model.roi_head.reid_head.in_channels': 64})
