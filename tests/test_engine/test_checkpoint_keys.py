"""The keys of a checkpoint are what other programs and older checkpoints rely on."""

import json
from pathlib import Path

import pytest
from mmdet.registry import MODELS
from mmengine.config import Config

from mmps_kd.models.utils.checkpoint_io import read_checkpoint

# A changed name breaks checkpoints that people have: rename in _load_from_state_dict as well, or better not at all.
NAMES = json.loads(Path(__file__).with_name('state_dict_keys.json').read_text())


@pytest.mark.parametrize('part', ['plain', 'everything'])
def test_names_of_weights_and_buffers(run_configs, part):
    state = MODELS.build(Config.fromfile(run_configs[part], import_custom_modules=False).model).state_dict()
    assert list(state) == NAMES['student'] + (NAMES['distillation'] if part == 'everything' else [])


def test_parts_of_a_checkpoint(runs):
    by_iteration = ['default_hooks.checkpoint.by_epoch=False', 'default_hooks.checkpoint.interval=2']
    options = [*by_iteration, 'train_cfg.max_epochs=1']
    checkpoint = read_checkpoint((runs.straight('plain', options) / 'last_checkpoint').read_text())
    assert checkpoint.keys() == {'meta', 'state_dict', 'message_hub', 'optimizer', 'param_schedulers', 'position'}
    assert {'epoch', 'iter', 'seed', 'cfg', 'dataset_meta'} <= checkpoint['meta'].keys()
    assert list(checkpoint['state_dict']) == NAMES['student']
    assert checkpoint['position'] == dict(seed=0, samples=12)


@pytest.mark.slow
def test_parts_of_a_checkpoint_with_teachers_and_average(runs):
    checkpoint = read_checkpoint((runs.straight('everything') / 'last_checkpoint').read_text())
    parts = {'meta', 'state_dict', 'message_hub', 'optimizer', 'param_schedulers', 'position', 'ema_state_dict'}
    assert checkpoint.keys() == parts
    assert checkpoint['meta']['teachers'].keys() == {'teacher', 'table', 'box_table'}
    names = NAMES['student'] + NAMES['distillation']
    assert list(checkpoint['ema_state_dict']) == ['steps', *(f'module.{name}' for name in names)]
