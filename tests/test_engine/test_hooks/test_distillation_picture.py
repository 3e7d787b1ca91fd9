"""Student beside teacher: what is compared, and that looking changes nothing."""

import copy

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmps_kd.engine.hooks.distillation_picture import picture_distillation
from mmps_kd.visualization.people import GAP

HINT = dict(at='backbone.0', loss=dict(type='FeatureImitationLoss'))
LOGITS = dict(at='rpn.cls', loss=dict(type='LogitDistillationLoss'))
IMAGE = np.full((192, 256, 3), 90, np.uint8)  # the original of the batch's images
PANEL = 800  # its width, enlarged


@pytest.fixture
def distil(model_cfg, build_model, tmp_path):
    """Build a student and its teacher, of the same architecture, by their seeds."""

    def build(seed, teacher_seed, *distillation):
        model_cfg.test_cfg.rcnn.score_thr = 0.0
        Config(dict(model=model_cfg)).dump(tmp_path / 'teacher.py')
        torch.save(dict(state_dict=build_model(seed=teacher_seed).state_dict(), meta={}), tmp_path / 'teacher.pth')
        teacher = dict(config=str(tmp_path / 'teacher.py'), checkpoint=str(tmp_path / 'teacher.pth'))
        student = build_model(seed=seed, type='PersonSearchDistiller', teacher=teacher, distillation=list(distillation))
        return student.eval()

    return build


def draw(student, batch, score_thr=0.0):
    """The picture of a batch's first image, without its headings, by panels."""
    (output, *_) = student.val_step(copy.deepcopy(batch))
    picture = picture_distillation(student, IMAGE, batch, output, score_thr)[-600:]
    return [picture[:, left : left + PANEL] for left in range(0, picture.shape[1], PANEL + GAP)]


@pytest.fixture
def batch(make_batch):
    return make_batch([([[10, 8, 40, 88]], [3]), ([[20, 10, 50, 90]], [0])])


def test_a_student_with_its_teachers_weights(distil, batch):
    ours, theirs, heat = draw(distil(0, 0, HINT), batch)
    assert np.array_equal(ours, theirs)
    assert np.unique(heat[:500, :500]).tolist() == [32, 34]  # grey under the colour for no difference


def test_another_teacher(distil, batch):
    student = distil(0, 7, LOGITS, HINT)
    ours, theirs, heat = draw(student, batch)
    assert not np.array_equal(ours, theirs)
    assert heat[:500, :500].max() > 60
    blind, unseen, _ = draw(student, batch, score_thr=1.1)
    assert np.array_equal(blind, unseen)


def test_without_a_feature_loss_there_is_no_heat_map(distil, batch):
    assert len(draw(distil(0, 7, LOGITS), batch)) == 2


def test_the_teacher_detects_as_it_does_alone(distil, batch):
    student = distil(0, 7, HINT)
    data = student.data_preprocessor(batch, False)
    (sample,) = student.teacher.predict(data['inputs'][:1], data['data_samples'][:1])
    found = sample.pred_instances
    alone = student.teacher.model.val_step(copy.deepcopy(batch))[0].pred_instances
    assert len(found) > 0
    assert torch.allclose(found.bboxes, alone.bboxes, atol=1e-4)
    assert torch.allclose(found.scores, alone.scores, atol=1e-5)
    assert 'pred_instances' not in data['data_samples'][0]


def test_looking_changes_nothing(distil, batch):
    student = distil(0, 7, HINT)
    (output, *_) = student.val_step(copy.deepcopy(batch))
    before, boxes = copy.deepcopy(student.state_dict()), output.pred_instances.bboxes.clone()
    random = torch.get_rng_state()
    picture_distillation(student, IMAGE, batch, output, 0.0)
    assert all(torch.equal(before[key], value) for key, value in student.state_dict().items())
    assert torch.equal(output.pred_instances.bboxes, boxes)
    assert torch.equal(torch.get_rng_state(), random)
    assert batch['inputs'][0].dtype == torch.uint8
