"""Which checkpoint a training continues from."""

import pytest
import torch
from mmengine.config import Config

from mmps_kd.engine.resume import set_resume
from mmps_kd.errors import UserError


def write(path):
    torch.save(dict(meta={}, state_dict={}), path)
    return str(path)


@pytest.fixture
def warnings(monkeypatch):
    """What was logged."""
    logged = []
    monkeypatch.setattr('mmps_kd.engine.resume.print_log', lambda message, *_: logged.append(message))
    return logged


def settings(tmp_path, checkpoint, **given):
    """``resume`` and ``load_from`` afterwards."""
    cfg = Config(dict(work_dir=str(tmp_path), **given))
    set_resume(cfg, checkpoint)
    return cfg.get('resume'), cfg.get('load_from')


@pytest.mark.parametrize(
    ('checkpoint', 'given'),
    [
        ('auto', {}),
        ('auto', dict(load_from='weights.pth')),
        (None, dict(resume=True)),
        (None, dict(resume=True, load_from=None)),
    ],
)
def test_the_newest_is_resumed(tmp_path, warnings, checkpoint, given):
    newest = write(tmp_path / 'epoch_1.pth')
    assert settings(tmp_path, checkpoint, **given) == (True, newest)
    assert warnings == []


def test_a_damaged_one_is_warned_about(tmp_path, warnings):
    before = write(tmp_path / 'epoch_1.pth')
    (tmp_path / 'epoch_2.pth').touch()
    assert settings(tmp_path, 'auto') == (True, before)
    assert warnings == [f'{tmp_path}/epoch_2.pth is damaged, going on from {before} instead']


def test_there_is_nothing_to_resume(tmp_path, warnings):
    assert settings(tmp_path, 'auto') == (False, None)
    assert warnings == [f'no checkpoint in {tmp_path} to resume: training starts from the beginning']


def test_the_first_start_of_a_run_from_weights(tmp_path, warnings):
    assert settings(tmp_path, 'auto', load_from='weights.pth') == (None, 'weights.pth')


@pytest.mark.parametrize(
    'given', [{}, dict(load_from='a.pth'), dict(resume=True, load_from='a.pth'), dict(resume=False, load_from='a.pth')]
)
def test_what_the_config_says_is_left(tmp_path, given):
    write(tmp_path / 'epoch_1.pth')
    assert settings(tmp_path, None, **given) == (given.get('resume'), given.get('load_from'))


def test_a_file(tmp_path):
    file = write(tmp_path / 'other.pth')
    assert settings(tmp_path, file, load_from='a.pth') == (True, file)
    with pytest.raises(UserError, match='--resume: there is no checkpoint absent.pth'):
        settings(tmp_path, 'absent.pth')
