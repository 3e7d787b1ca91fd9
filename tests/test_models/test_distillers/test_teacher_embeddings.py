"""A teacher that identifies too embeds the student's RoIs."""

import pytest
import torch

from mmps_kd.errors import UserError
from mmps_kd.models import CorrelationLoss

PEOPLE = [([[10, 8, 40, 88], [60, 20, 90, 92]], [3, -1]), ([[20, 10, 50, 90]], [0])]
CORRELATION = dict(at='roi.embedding', table='teacher', loss=dict(type='CorrelationLoss'))


def test_both_embed_the_same_rois(build_taught, make_batch):
    model = build_taught([CORRELATION])
    batch = model.data_preprocessor(make_batch(PEOPLE), training=True)
    outputs = model.forward_train(batch['inputs'], batch['data_samples'])
    answers = model.forward_teacher(batch['inputs'], outputs, batch['data_samples'])
    rois = outputs.roi.reid_rois
    boxes = [rois[rois[:, 0] == image, 1:] for image in range(2)]
    expected = torch.cat(model.teacher.model.roi_head.embed(model.teacher.extract_feat(batch['inputs']), boxes))
    torch.testing.assert_close(answers.embeddings, expected)
    assert len(rois) == len(outputs.roi.embeddings) >= 3
    assert not answers.embeddings.requires_grad

    (term,) = model.distillation
    value = term(outputs, answers)
    assert value.item() == pytest.approx(CorrelationLoss()(outputs.roi.embeddings, expected).item())
    assert value > 0
    value.backward()
    assert model.roi_head.reid_head.fc.weight.grad.abs().sum() > 0


def test_with_its_own_weights_there_is_nothing_to_learn(build_taught, make_batch):
    model = build_taught([CORRELATION], seed=0).eval()
    batch = model.data_preprocessor(make_batch(PEOPLE), training=True)
    losses = model(**batch, mode='loss')
    assert losses['distill/loss_roi.embedding'].item() == pytest.approx(0, abs=1e-9)


def test_regression_needs_the_same_dimensions(build_taught):
    term = dict(at='roi.embedding', table='teacher', loss=dict(type='IDFeatureLoss'))
    assert build_taught([term]).asks_embeddings
    with pytest.raises(
        UserError, match="IDFeatureLoss cannot compare embeddings of 16 dimensions with the teacher's of 8"
    ):
        build_taught([term], **{'model.roi_head.reid_head.feat_channels': 8})
    assert build_taught([CORRELATION], **{'model.roi_head.reid_head.feat_channels': 8}).asks_embeddings


def test_a_detector_does_not_embed(build_model):
    with pytest.raises(UserError, match='needs a teacher that is a person-search model, and there is none'):
        build_model(type='PersonSearchDistiller', distillation=[CORRELATION])
