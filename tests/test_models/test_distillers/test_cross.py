"""CrossKD: the teacher's heads on the student's features."""

import pytest
import torch

from mmps_kd.errors import UserError

PEOPLE = [([[10, 8, 40, 88], [60, 20, 90, 92]], [3, -1]), ([[20, 10, 50, 90]], [0])]
LOSSES = {
    'rpn.cls': dict(type='LogitDistillationLoss', mode='kl'),
    'rpn.bbox': dict(type='BoundedRegressionLoss'),
    'roi.cls': dict(type='LogitDistillationLoss', mode='kl'),
    'roi.bbox': dict(type='BoundedRegressionLoss'),
}
CROSSED = [dict(at=at, cross=True, loss=loss) for at, loss in LOSSES.items()]


def test_the_teachers_heads_answer_on_the_students_features(build_taught, make_batch):
    model = build_taught(CROSSED)
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
def test_gradients_reach_the_features_and_no_head(build_taught, make_batch, at):
    model = build_taught([dict(at=at, cross=True, loss=LOSSES[at])])
    losses = model(**model.data_preprocessor(make_batch(PEOPLE), training=True), mode='loss')
    assert losses[f'distill/loss_{at}'] > 0
    losses[f'distill/loss_{at}'].backward()
    assert model.backbone.conv1.weight.grad.abs().sum() > 0
    heads = [*model.rpn_head.parameters(), *model.roi_head.bbox_head.parameters(), *model.teacher.model.parameters()]
    assert all(parameter.grad is None for parameter in heads)


def test_the_students_own_weights_leave_nothing_to_learn(build_taught, make_batch):
    model = build_taught(CROSSED, seed=0).eval()
    losses = model(**model.data_preprocessor(make_batch(PEOPLE), training=True), mode='loss')
    for at in ('rpn.cls', 'roi.cls'):
        assert losses[f'distill/loss_{at}'].item() == pytest.approx(0, abs=1e-6)


def test_what_cannot_be_crossed(build_taught):
    hint = dict(at='backbone.0', cross=True, loss=dict(type='FeatureImitationLoss'))
    with pytest.raises(UserError, match="at 'backbone.0': cross=True is for rpn.cls, rpn.bbox, roi.cls, roi.bbox"):
        build_taught([hint])
    with pytest.raises(UserError, match="cross=True is for .* and a teacher's heads"):
        build_taught(CROSSED[:1], answers='boxes')
    wide = {'model.backbone.base_channels': 16, 'model.rpn_head.in_channels': 64}
    wide |= {'model.roi_head.bbox_roi_extractor.out_channels': 64, 'model.roi_head.bbox_head.in_channels': 64}
    with pytest.raises(UserError, match="the student's features, which do not fit"):
        build_taught(CROSSED[:1], **wide, **{'model.roi_head.reid_head.in_channels': 64})
