"""The launch scripts with several real processes, on a machine that may have no GPU."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmps_kd.compat import load_from_file

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs/demo/oim_r18-narrow_mini.py'

pytestmark = pytest.mark.slow


def call(*command):
    path = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PATH': path, 'CUDA_VISIBLE_DEVICES': ''}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_several_processes_train_and_give_the_results_of_one(tiny_cuhk_sysu, tmp_path):
    roots = [f'{loader}_dataloader.dataset.data_root={tiny_cuhk_sysu}/' for loader in ('train', 'val', 'test')]
    options = ['model.roi_head.reid_head.loss_oim.num_identities=6', 'train_cfg.max_epochs=1']
    options += [
        'model.test_cfg.rcnn.score_thr=0.0',
        'model.test_cfg.rcnn.max_per_img=5',
        'test_evaluator.score_thr=0.0',
    ]
    common = ['--cfg-options', *roots, *options]
    call(ROOT / 'tools/dist_train.sh', CONFIG, 2, '--work-dir', tmp_path / 'train', *common)
    checkpoint = tmp_path / 'train/epoch_1.pth'
    lut = load_from_file(checkpoint)['state_dict']['roi_head.reid_head.loss_oim.lut']
    assert lut.norm(dim=1).numpy() == pytest.approx(np.ones(6), abs=1e-5)

    # 12 images, 5 ranks: three of them get one twice.
    five, one = tmp_path / 'five.npz', tmp_path / 'one.npz'
    call(ROOT / 'tools/dist_test.sh', CONFIG, checkpoint, 5, '--work-dir', tmp_path / 'w', '--out', five, *common)
    call(
        sys.executable, ROOT / 'tools/test.py', CONFIG, checkpoint, '--work-dir', tmp_path / 'w', '--out', one, *common
    )
    with np.load(five) as first, np.load(one) as second:
        assert set(first.files) == set(second.files)
        assert all(np.array_equal(first[name], second[name]) for name in first.files)
        assert len(first['img_names']) == 12
