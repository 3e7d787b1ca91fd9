"""A distiller's student without its teachers."""

import copy

import pytest
import torch
from mmengine.config import Config

from mmps_kd.apis.init_model import init_model, plain_student
from mmps_kd.errors import UserError
from mmps_kd.models.detectors import PersonSearchRCNN

TEACHING = dict(
    type='PersonSearchDistiller',
    teacher=dict(config='absent.py', checkpoint='absent.pth'),
    lut=dict(type='LUTDistiller', lut_file='absent.safetensors'),
    distillation=[dict(at='backbone.0', loss=dict(type='FeatureImitationLoss'))],
)


@pytest.fixture
def checkpoint(build_model, tmp_path):
    """Weights of a student, and what training leaves beside them."""

    def write(**changes):
        state = {**build_model(seed=3).state_dict(), 'distillation.0.adapter.weight': torch.ones(1), **changes}
        torch.save(dict(state_dict={k: v for k, v in state.items() if v is not None}, meta={}), tmp_path / 's.pth')
        return tmp_path / 's.pth'

    return write


def test_the_config_without_its_teachers(model_cfg):
    distiller = {**model_cfg, **TEACHING, 'enabled': True}
    before = copy.deepcopy(distiller)
    assert plain_student(distiller) == dict(model_cfg)
    assert distiller == before


def test_a_plain_config_stays(model_cfg):
    assert plain_student(model_cfg) is model_cfg


def test_the_student_has_the_trained_weights_and_reads_no_other_file(model_cfg, build_model, checkpoint):
    cfg = Config(dict(model={**model_cfg, **TEACHING}))
    student = init_model(cfg, checkpoint(), 'cpu')
    assert type(student) is PersonSearchRCNN
    assert not student.training
    trained = build_model(seed=3).state_dict()
    oim = [key for key in trained if '.loss_oim.' in key]
    assert len(oim) == 3
    assert all(torch.equal(value, trained[key]) for key, value in student.state_dict().items() if key not in oim)


@pytest.mark.parametrize('lut', [torch.zeros(9, 16), None])
def test_tables_of_training_may_have_any_size(model_cfg, checkpoint, lut):
    prefix = 'roi_head.reid_head.loss_oim.'
    path = checkpoint(**{prefix + 'lut': lut, prefix + 'queue': torch.zeros(0, 16)})
    assert not init_model(Config(dict(model=model_cfg)), path, 'cpu').training


def test_weights_that_do_not_fit(model_cfg, checkpoint):
    key = 'roi_head.reid_head.fc.weight'
    with pytest.raises(UserError, match=f's.pth does not fit the config: it lacks {key}'):
        init_model(Config(dict(model=model_cfg)), checkpoint(**{key: None}), 'cpu')


def test_weights_alone(model_cfg, build_model, tmp_path):
    trained = build_model(seed=3).state_dict()
    torch.save({f'module.{key}': value for key, value in trained.items()}, tmp_path / 's.pth')
    student = init_model(Config(dict(model=model_cfg)), tmp_path / 's.pth', 'cpu').state_dict()
    assert all(torch.equal(student[key], value) for key, value in trained.items() if '.loss_oim.' not in key)
