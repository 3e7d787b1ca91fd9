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
RUN_COMMANDS = ROOT / 'tests/test_docs/run_commands.py'
# A `python` that hands its script and arguments to run_commands.py, which spares forty processes their imports.
PYTHON = """#!{executable} -SE
import json, sys
with open('commands', 'w') as commands, open('answers') as answers:
    print(json.dumps(sys.argv[1:]), file=commands, flush=True)
    code, output = json.loads(answers.readline())
sys.stdout.write(output)
sys.exit(code)
"""
SCRIPT = ROOT / 'tools/reproduce_paper.sh'
MODELS = 14  # three teachers, eleven students


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


@pytest.fixture
def run(small_configs, tiny_cuhk_sysu, tmp_path):
    """Run the chain in a folder with the data; gives what it printed."""
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/CUHK-SYSU').symlink_to(tiny_cuhk_sysu)
    (tmp_path / 'bin').mkdir()
    (tmp_path / 'bin/python').write_text(PYTHON.format(executable=sys.executable))
    (tmp_path / 'bin/python').chmod(0o755)
    for name in ('commands', 'answers'):
        os.mkfifo(tmp_path / name)
    path = f'{tmp_path / "bin"}{os.pathsep}{os.environ["PATH"]}'
    environment = {**os.environ, 'PATH': path, 'OMP_NUM_THREADS': '1', 'CONFIGS': str(small_configs)}

    def run():
        command = [str(SCRIPT), 'data']
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    # Opened for reading and writing, the pipes never end.
    with open(tmp_path / 'commands', 'r+b', 0) as commands, open(tmp_path / 'answers', 'r+b', 0) as answers:
        server = subprocess.Popen(
            [sys.executable, str(RUN_COMMANDS)], cwd=tmp_path, env=environment, stdin=commands, stdout=answers
        )
        yield run
        server.kill()
        server.wait()


@pytest.mark.slow
def test_the_whole_chain_on_the_synthetic_data(run, tmp_path):
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
