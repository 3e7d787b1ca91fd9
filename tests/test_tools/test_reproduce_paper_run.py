"""The chain that reproduces the paper, in earnest: small models on the synthetic data."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / 'tools/reproduce_paper.sh'
MODELS = 11  # three teachers, eight students


@pytest.fixture(scope='module')
def small_configs(tmp_path_factory, shrink):
    """The configs of the chain, made small; the names are the same."""
    root = tmp_path_factory.mktemp('configs')
    for folder in ('oim', 'qeeps', 'detector', 'kd'):
        (root / folder).mkdir()
        for path in ROOT.glob(f'configs/{folder}/*_20e_cuhk-sysu.py'):
            if 'fpn' not in path.stem and 'seqnet' not in path.stem:
                cfg = Config.fromfile(path)
                shrink(cfg)
                cfg.dump(root / folder / path.name)
    return root


def ours(output):
    """The column "ours" by config name."""
    rows = [line.strip('| ').split(' | ') for line in output.splitlines() if line.startswith('| `')]
    return {Path(row[0].strip('`')).stem: row[3] for row in rows}


def modified(work_dir):
    return {path.parent.name: path.stat().st_mtime_ns for path in work_dir.glob('*/figures.json')}


@pytest.mark.slow
def test_the_whole_chain_on_the_synthetic_data(small_configs, tiny_cuhk_sysu, tmp_path):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/CUHK-SYSU').symlink_to(tiny_cuhk_sysu)
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    environment = {**os.environ, 'PATH': path, 'OMP_NUM_THREADS': '1', 'CONFIGS': str(small_configs)}

    def run():
        command = [str(SCRIPT), 'data']
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    measured = ours(run())
    work_dir = tmp_path / 'work_dirs/paper_600'
    assert len(measured) == 2 * MODELS
    for name, value in measured.items():
        assert (value == 'not run') == name.endswith('prw')
    logged = json.loads((work_dir / 'lut_qeeps-r50_oim_r18_20e_cuhk-sysu/figures.json').read_text())
    shown = measured['lut_qeeps-r50_oim_r18_20e_cuhk-sysu'].split(' / ')
    assert shown[0] == f'{100 * logged["search/mAP"]:.1f}'
    assert shown[3] == f'{100 * logged["search/det_recall"]:.1f}' != '0.0'

    before = modified(work_dir)
    assert len(before) == MODELS
    again = run()
    assert (ours(again), modified(work_dir)) == (measured, before)
    assert 'training' not in again

    redone = 'oim_r18_20e_cuhk-sysu'
    shutil.rmtree(work_dir / redone)
    assert ours(run()) == measured  # the same seed, the same figures
    assert {name for name, time in modified(work_dir).items() if time != before[name]} == {redone}
