"""A teacher that identifies too embeds the student's RoIs."""

import copy
import math

import cv2
import numpy as np
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
    with pytest.raises(UserError, match='a person-search model or a re-identification network, and there is none'):
        build_model(type='PersonSearchDistiller', distillation=[CORRELATION])


def test_a_reid_network_embeds_the_crops_of_the_rois(build_model, make_batch, write_means_network, tmp_path):
    teacher = dict(network=str(write_means_network(tmp_path / 'means.onnx')), preset='omz')
    model = build_model(type='PersonSearchDistiller', teacher=teacher, distillation=[CORRELATION])
    raw = make_batch(PEOPLE)
    batch = model.data_preprocessor(raw, training=True)
    outputs = model.forward_train(batch['inputs'], batch['data_samples'])
    answers = model.forward_teacher(batch['inputs'], outputs, batch['data_samples'])
    expected = []
    for index, *box in outputs.roi.reid_rois.tolist():
        x1, y1, x2, y2 = max(math.floor(box[0]), 0), max(math.floor(box[1]), 0), math.ceil(box[2]), math.ceil(box[3])
        pixels = raw['inputs'][int(index)][:, y1:y2, x1:x2].permute(1, 2, 0).numpy()
        expected.append(cv2.resize(pixels, (4, 8)).reshape(-1, 3).mean(axis=0))
    expected = torch.nn.functional.normalize(torch.from_numpy(np.stack(expected)), dim=1)
    torch.testing.assert_close(answers.embeddings, expected.float(), atol=1e-4, rtol=0)

    torch.manual_seed(0)
    losses = model(**batch, mode='loss')
    assert losses['distill/loss_roi.embedding'] > 0
    # An averaged copy asks the same network; it is in no state.
    assert copy.deepcopy(model).teacher is model.teacher
    assert model.teachers()['teacher']['config'] == 'means.onnx'


def test_rois_at_the_border_and_none_at_all(build_model, write_means_network, tmp_path):
    teacher = dict(network=str(write_means_network(tmp_path / 'means.onnx')), preset='omz')
    teacher = build_model(type='PersonSearchDistiller', teacher=teacher, distillation=[CORRELATION]).teacher
    images = (torch.full((1, 20, 30, 3), 9, dtype=torch.uint8),)
    rois = torch.tensor([[0, 29.5, 19.5, 40, 40], [0, -5, -5, -1, -1], [0, 0, 0, 30, 20]], dtype=torch.float32)
    torch.testing.assert_close(teacher.embed(images, rois), torch.full((3, 3), 3**-0.5))
    assert teacher.embed(images, rois[:0]).shape == (0, 3)


def test_a_reid_network_has_nothing_but_embeddings(build_model, write_means_network, tmp_path):
    teacher = dict(network=str(write_means_network(tmp_path / 'means.onnx')), preset='omz')
    hint = dict(at='backbone.0', loss=dict(type='FeatureImitationLoss'))
    with pytest.raises(UserError, match=r"'backbone\.0': means\.onnx is a re-identification network"):
        build_model(type='PersonSearchDistiller', teacher=teacher, distillation=[hint])
