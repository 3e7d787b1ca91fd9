"""Checkpoints that bring code along: none of the ways into the package may run it."""

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import load_checkpoint

from mmps_kd.apis.lut import rows_from_memory
from mmps_kd.compat import load_from_http
from mmps_kd.errors import UserError
from mmps_kd.models.distillers.teacher import DetectorTeacher
from mmps_kd.models.utils.checkpoint_io import read_checkpoint

ROOT = Path(__file__).resolve().parents[2]
CONFIG = 'configs/demo/oim_r18-narrow_mini.py'
DISTILLED = 'configs/demo/det_oim-r18-narrow_oim_r18-quarter_mini.py'


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, 'w')


@pytest.fixture
def marker(tmp_path):
    return tmp_path / 'code-was-run'


@pytest.fixture(params=['zip', 'legacy', 'bare pickle'])
def evil(request, tmp_path, marker):
    """A checkpoint that is whole but for one entry."""
    path = tmp_path / 'evil.pth'
    checkpoint = dict(state_dict={'loss_oim.lut': torch.eye(3)}, meta=dict(epoch=1), optimizer=Evil(marker))
    if request.param == 'bare pickle':
        path.write_bytes(pickle.dumps(checkpoint))
    else:
        torch.save(checkpoint, path, _use_new_zipfile_serialization=request.param == 'zip')
    return path


def test_the_file_is_as_evil_as_it_looks(evil, marker):
    if evil.read_bytes()[:2] == b'PK':
        torch.load(evil, weights_only=False)
        assert marker.exists()


def load_from(path, build_model, cfg):
    load_checkpoint(build_model(), str(path))


def init_from(path, build_model, cfg):
    backbone = dict(cfg.backbone, init_cfg=dict(type='Pretrained', checkpoint=str(path), prefix='backbone.'))
    MODELS.build(backbone).init_weights()


def take_table_from(path, build_model, cfg):
    rows_from_memory(read_checkpoint(path), str(path))


def ask_as_teacher(path, build_model, cfg):
    file = path.with_name('teacher.py')
    Config(dict(model=cfg)).dump(file)
    DetectorTeacher(str(file), str(path), build_model().data_preprocessor)


def download(path, build_model, cfg):
    load_from_http(path.as_uri())


@pytest.mark.parametrize('way', [load_from, init_from, take_table_from, ask_as_teacher, download])
def test_no_way_runs_it(way, evil, marker, build_model, model_cfg, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    with pytest.raises(UserError, match=r'evil\.pth cannot be read \(\w+\): it is damaged or holds more than data'):
        way(evil, build_model, model_cfg)
    assert not marker.exists()


def test_plain_downloads_load(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    torch.save(dict(state_dict={'a': torch.ones(2)}), tmp_path / 'fine.pth')
    assert load_from_http((tmp_path / 'fine.pth').as_uri())['state_dict']['a'].tolist() == [1, 1]


UNSAFE = re.compile(
    r'np\.load\(|pickle\.loads?\(|yaml\.load|allow_pickle=True|weights_only=False|(?<![.\w])(eval|exec)\('
)


@pytest.mark.parametrize('folder', ['mmps_kd', 'tools'])
def test_nothing_in_the_source_reads_files_as_code(folder):
    lines = [(path, line) for path in (ROOT / folder).rglob('*.py') for line in path.read_text().splitlines()]
    assert len(lines) > 500
    unsafe = [(path.name, line) for path, line in lines if UNSAFE.search(line)]
    unsafe += [(path.name, line) for path, line in lines if 'torch.load(' in line and 'weights_only=True' not in line]
    assert [found for found in unsafe if '``' not in found[1]] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    'command',
    [
        ['test.py', CONFIG, 'EVIL'],
        ['train.py', CONFIG, '--resume', 'EVIL'],
        ['train.py', CONFIG, '--cfg-options', 'load_from=EVIL'],
        ['train.py', DISTILLED, '--cfg-options', 'model.teacher.checkpoint=EVIL'],
        ['extract_lut.py', CONFIG, 'EVIL', '--out', 'OUT'],
        ['extract_lut.py', CONFIG, 'EVIL', '--out', 'OUT', '--source', 'boxes'],
        ['analysis_tools/publish_student.py', 'EVIL', 'OUT'],
    ],
    ids=lambda command: ' '.join(command[:3:2]),
)
def test_the_tools_stop_with_one_line(command, tiny_cuhk_sysu, tmp_path, marker):
    evil = tmp_path / 'evil.pth'
    torch.save(dict(state_dict={'loss_oim.lut': torch.eye(3)}, meta=dict(epoch=1), optimizer=Evil(marker)), evil)
    names = {'EVIL': str(evil), 'OUT': str(tmp_path / 'out.pth')}
    command = [names.get(part, part.replace('EVIL', str(evil))) for part in command]
    if command[0] in ('train.py', 'test.py'):
        roots = [f'{loader}_dataloader.dataset.data_root={tiny_cuhk_sysu}/' for loader in ('train', 'val', 'test')]
        identities = 'model.roi_head.reid_head.loss_oim.num_identities=6'
        if '--cfg-options' not in command:
            command.append('--cfg-options')
        command += [*roots, identities]
        command[2:2] = [] if command[0] == 'test.py' else ['--work-dir', str(tmp_path / 'work')]
    command = [sys.executable, str(ROOT / 'tools' / command[0]), *command[1:]]
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'MMPS_CACHE': str(tmp_path / 'cache')}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, cwd=ROOT)
    assert done.returncode == 1, done.stderr[-2000:]
    assert f'error: checkpoint {evil} cannot be read (UnpicklingError)' in done.stderr
    assert 'Traceback' not in done.stderr
    assert not marker.exists() and not (tmp_path / 'out.pth').exists()
