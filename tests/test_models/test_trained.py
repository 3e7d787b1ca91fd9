"""Trained weights that come from elsewhere."""

import hashlib

import pytest
import torch
from mmengine.config import Config

from mmps_kd.errors import UserError
from mmps_kd.models.trained import file_sha256, load_teacher, read_checkpoint


def test_hash_of_a_file(tmp_path):
    content = bytes(range(256)) * 5000  # more than one block
    (tmp_path / 'a').write_bytes(content)
    assert file_sha256(tmp_path / 'a') == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize('content', [b'', b'nothing of the kind', b'PK\x03\x04 half a zip'])
def test_checkpoint_that_is_none(tmp_path, content):
    path = tmp_path / 't.pth'
    with pytest.raises(UserError, match=f'no checkpoint {path}'):
        read_checkpoint(path)
    path.write_bytes(content)
    with pytest.raises(UserError, match=f'checkpoint {path} cannot be read') as caught:
        read_checkpoint(path)
    assert '\n' not in str(caught.value)


def test_checkpoint_without_meta(tmp_path):
    torch.save(dict(state_dict={}), tmp_path / 't.pth')
    with pytest.raises(UserError, match='lacks state_dict or meta'):
        read_checkpoint(tmp_path / 't.pth')


def test_teacher_has_the_given_weights(build_model, model_cfg):
    weights = build_model(seed=3).state_dict()
    teacher = load_teacher(Config(dict(model=model_cfg)), {**weights, 'adapter.weight': torch.ones(1)}, 't.pth')
    assert not teacher.training
    assert all(torch.equal(value.cpu(), weights[key]) for key, value in teacher.state_dict().items())


def test_weights_of_another_model(build_model, model_cfg):
    weights, cfg = build_model().state_dict(), Config(dict(model=model_cfg))
    key = 'rpn_head.rpn_conv.weight'
    with pytest.raises(UserError, match=f't.pth does not fit the config: it lacks {key}'):
        load_teacher(cfg, {k: v for k, v in weights.items() if k != key}, 't.pth')
    with pytest.raises(UserError, match=f't.pth does not fit the config: size mismatch for {key}') as caught:
        load_teacher(cfg, {**weights, key: torch.ones(1)}, 't.pth')
    assert '\n' not in str(caught.value)
