"""Training with weights, gradients and optimizer split over two processes."""

import pytest
import torch
from mmengine.config import Config

from mmps_kd.models.utils.checkpoint_io import read_checkpoint

STRATEGY = dict(
    type='FSDPStrategy',
    model_wrapper=dict(type='CPUShardedDataParallel', use_orig_params=True),
    # With offload_to_cpu, MMEngine's default, torch reads freed memory where the weights are on the CPU already.
    state_dict_cfg=dict(
        state_dict_type='FULL_STATE_DICT',
        state_dict_config=dict(type='FullStateDictConfig', offload_to_cpu=False, rank0_only=False),
        optim_state_dict_config=dict(type='FullOptimStateDictConfig', offload_to_cpu=False, rank0_only=False),
    ),
)

pytestmark = pytest.mark.slow


@pytest.fixture
def train(runs, run_configs, tmp_path):
    """Train on two processes; gives the last checkpoint."""

    def train(name, **strategy):
        cfg = Config.fromfile(run_configs['plain'], import_custom_modules=False)
        cfg.train_dataloader.batch_size = 1
        cfg.optim_wrapper.clip_grad = None  # MMEngine clips by the norm of a rank's part
        cfg.custom_imports.imports.append('sharded')
        cfg.update(strategy)
        cfg.dump(tmp_path / f'{name}.py')
        runs.configs[name] = tmp_path / f'{name}.py'
        done = runs.train(name, tmp_path / name, ranks=2)
        assert done.code == 0, done.output
        return read_checkpoint(tmp_path / name / 'epoch_2.pth')

    return train


def test_as_training_that_is_not_split(train):
    whole = train('whole')['state_dict']
    split = train('split', runner_type='FlexibleRunner', strategy=STRATEGY)
    # It is FSDP that knows optimizer states by name.
    assert all(isinstance(name, str) for name in split['optimizer']['state'])
    assert split['state_dict'].keys() == whole.keys()
    for name, value in split['state_dict'].items():
        torch.testing.assert_close(value, whole[name], rtol=1e-4, atol=1e-6, msg=lambda text, n=name: f'{n}: {text}')
