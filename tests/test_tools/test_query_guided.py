"""tools/test.py on a query-guided model: figures, file and pictures of pairs."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs/demo/qeeps_r18-quarter_mini.py'


@pytest.mark.slow
def test_pairs_are_scored_written_and_drawn(tiny_cuhk_sysu, tmp_path, qeeps_cfg):
    qeeps_cfg.test_cfg.rcnn.update(score_thr=0.0, max_per_img=3)
    torch.save(dict(state_dict=MODELS.build(qeeps_cfg).state_dict(), meta={}), tmp_path / 'model.pth')
    config = tmp_path / 'config.py'
    config.write_text(
        f'_base_ = {str(CONFIG)!r}\nmodel = dict(_delete_=True, **{qeeps_cfg.to_dict()!r})\n'
        'test_dataloader = dict(num_workers=0, persistent_workers=False)\n'
        f"test_dataloader['dataset'] = dict(data_root='{tiny_cuhk_sysu}/')\n"
        'test_evaluator = dict(score_thr=0.0)\n'
    )
    command = [sys.executable, ROOT / 'tools/test.py', config, tmp_path / 'model.pth', '--work-dir', tmp_path / 'work']
    command += ['--out', tmp_path / 'pairs.npz', '--show-dir', 'show']
    env = {**os.environ, 'OMP_NUM_THREADS': '1'}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert '| search (%)' in done.stdout + done.stderr
    with np.load(tmp_path / 'pairs.npz') as pairs:
        assert set(pairs.files) == {'query_ids', 'image_names', 'num_dets', 'boxes', 'similarities', 'score_thr'}
        assert set(pairs['query_ids']) == {0, 1, 2, 3, 4}
        assert pairs['num_dets'].sum() == len(pairs['boxes']) == len(pairs['similarities']) > 0
    assert len(list((tmp_path / 'work').glob('*/show/rankings/query_*.png'))) == 5
