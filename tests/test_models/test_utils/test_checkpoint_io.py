"""Trained weights that come from elsewhere."""

import hashlib

import pytest
import torch
from mmengine.config import Config

from mmps_kd.errors import UserError
from mmps_kd.models.distillers.teacher import DetectorTeacher
from mmps_kd.models.utils.checkpoint_io import file_sha256, load_teacher, read_checkpoint


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


@pytest.mark.parametrize(
    'wrap',
    [
        lambda state: state,
        lambda state: dict(state_dict=state),
        lambda state: dict(state_dict=state, meta=None),
        lambda state: {f'module.{key}': value for key, value in state.items()},
        lambda state: dict(state_dict={f'module.{key}': value for key, value in state.items()}, optimizer={}),
        # As EMAHook saves: the averaged weights in state_dict, the others beside them.
        lambda state: dict(
            state_dict=state, ema_state_dict={f'module.{key}': 0 * v for key, v in state.items()}, meta={}
        ),
    ],
    ids=['weights alone', 'no meta', 'meta None', 'wrapped alone', 'wrapped', 'averaged'],
)
def test_weights_in_every_form_that_mmengine_loads(tmp_path, wrap):
    state = {'head.weight': torch.arange(3.0), 'head.module.bias': torch.ones(2)}
    torch.save(wrap(state), tmp_path / 't.pth')
    checkpoint = read_checkpoint(tmp_path / 't.pth')
    assert checkpoint['meta'] == {}
    assert checkpoint['state_dict'].keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in checkpoint['state_dict'].items())


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (dict(model={'a': torch.ones(1)}), "under the key state_dict, .*; it has 'model'$"),
        (dict(state_dict=[1], meta={}, a=1, b=2), "; it has 'state_dict', 'meta', 'a', ...$"),
        (dict(state_dict={'a': torch.ones(1)}, meta=3), 'meta must be a dict'),
        ([torch.ones(1)], 'it holds a list, not weights by their names'),
        (torch.ones(1), 'it holds a Tensor'),
    ],
)
def test_files_without_weights(tmp_path, content, message):
    torch.save(content, tmp_path / 't.pth')
    with pytest.raises(UserError, match=f't.pth is no checkpoint: .*{message}') as caught:
        read_checkpoint(tmp_path / 't.pth')
    assert '\n' not in str(caught.value)


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


def test_the_keys_that_do_not_fit_are_counted(build_model, model_cfg):
    weights, cfg = build_model().state_dict(), Config(dict(model=model_cfg))
    others = {f'student.{key}': value for key, value in weights.items()}
    numbers = f'{len(weights) - sum(key.endswith("num_batches_tracked") for key in weights)} of {len(weights)} weights'
    with pytest.raises(
        UserError, match=rf'it lacks backbone\.\S+, backbone\.\S+, backbone\.\S+, ... \({numbers}\); '
    ) as caught:
        load_teacher(cfg, others, 't.pth')
    assert f'it has {len(weights)} that the model lacks: student.backbone.' in str(caught.value)
    resized = {
        key: value.new_zeros(2, 3, 5) if key.startswith('rpn_head.') else value for key, value in weights.items()
    }
    wrong = sum(key.startswith('rpn_head.') for key in weights)
    with pytest.raises(UserError, match=rf'size mismatch for rpn_head\..* \(and {wrong - 1} more\)$'):
        load_teacher(cfg, resized, 't.pth')


def test_counters_of_batch_norms_may_be_absent(build_model, model_cfg):
    weights = build_model(seed=3).state_dict()
    old = {key: value for key, value in weights.items() if not key.endswith('num_batches_tracked')}
    assert len(old) < len(weights)
    teacher = load_teacher(Config(dict(model=model_cfg)), old, 't.pth').state_dict()
    assert all(torch.equal(teacher[key].cpu(), value) for key, value in old.items())


def test_a_detector_teacher_of_weights_alone(build_model, model_cfg, tmp_path):
    weights = build_model(seed=3).state_dict()
    torch.save(weights, tmp_path / 't.pth')
    Config(dict(model=model_cfg)).dump(tmp_path / 't.py')
    teacher = DetectorTeacher(str(tmp_path / 't.py'), str(tmp_path / 't.pth'), build_model().data_preprocessor)
    assert all(torch.equal(value.cpu(), weights[key]) for key, value in teacher.model.state_dict().items())
