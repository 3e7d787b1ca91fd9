"""Training on pairs as the demo's config says, on a tiny data set, in one process and in two."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmps_kd.compat import load_from_file

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / 'configs/demo/qeeps_r18-quarter_mini.py'


@pytest.fixture
def cfg(qeeps_cfg, tiny_cuhk_sysu, tmp_path):
    cfg = Config.fromfile(CONFIG)
    qeeps_cfg.roi_head.reid_head.loss_oim.num_identities = 6
    loader = cfg.train_dataloader
    loader.dataset.dataset.data_root = str(tiny_cuhk_sysu)
    loader.update(batch_size=2, num_workers=0, persistent_workers=False)
    train = dict(type='IterBasedTrainLoop', max_iters=3, val_interval=100)
    cfg.train_cfg = train
    cfg.update(model=qeeps_cfg, work_dir=str(tmp_path), param_scheduler=None)
    cfg.update({f'{stage}_{part}': None for stage in ('val', 'test') for part in ('dataloader', 'cfg', 'evaluator')})
    cfg.default_hooks.checkpoint.update(by_epoch=False, interval=3)
    cfg.log_level = 'ERROR'
    return cfg


def test_three_steps(cfg, tmp_path):
    runner = Runner.from_cfg(cfg)
    before = {name: p.detach().clone() for name, p in runner.model.named_parameters()}
    runner.train()
    unchanged = [name for name, p in runner.model.named_parameters() if torch.equal(p, before[name])]
    assert unchanged == []
    scalars = runner.message_hub.log_scalars
    for name in ('loss_qrpn', 'loss_qsim', 'loss_oim', 'loss_rpn_cls'):
        history, _ = scalars[f'train/{name}'].data
        assert len(history) == 3 and all(value > 0 for value in history)
    checkpoint = load_from_file(tmp_path / 'iter_3.pth')
    assert len(checkpoint['meta']['dataset_meta']['identities']) == 6
    # Whoever was a query or stood in a gallery image has a row now.
    lut = checkpoint['state_dict']['roi_head.reid_head.loss_oim.lut']
    assert (lut.norm(dim=1) > 0).any()


@pytest.mark.slow
def test_two_processes_find_no_unused_parameter(tiny_cuhk_sysu, tmp_path):
    options = [
        f'train_dataloader.dataset.dataset.data_root={tiny_cuhk_sysu}/',
        'train_dataloader.dataset.positive_fraction=0.5',
        'model.roi_head.reid_head.loss_oim.num_identities=6',
        'train_cfg.max_epochs=2',
        *(f'val_{part}=None' for part in ('dataloader', 'cfg', 'evaluator')),
    ]
    command = [ROOT / 'tools/dist_train.sh', CONFIG, 2, '--work-dir', tmp_path, '--cfg-options', *options]
    path = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PATH': path, 'CUDA_VISIBLE_DEVICES': ''}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    state = load_from_file(tmp_path / 'epoch_2.pth')['state_dict']
    assert all(torch.isfinite(value).all() for value in state.values())
    assert state['roi_head.reid_head.loss_oim.lut'].norm(dim=1).tolist() == pytest.approx([1] * 6, abs=1e-5)
