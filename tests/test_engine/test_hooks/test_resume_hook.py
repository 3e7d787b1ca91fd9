"""Where a run starts, and what its iterations draw."""

import logging
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmps_kd.engine import ResumeHook


@pytest.fixture
def runner(tmp_path):
    """A runner that is to resume from whatever is the newest in its work dir."""
    logger = logging.getLogger('runner')
    return SimpleNamespace(work_dir=str(tmp_path), logger=logger, seed=0, iter=0, _resume=True, _load_from=None)


def write(path):
    torch.save(dict(meta={}, state_dict={}), path)
    return str(path)


def test_the_newest_is_resumed(runner, tmp_path):
    newest = write(tmp_path / 'epoch_1.pth')
    ResumeHook().before_run(runner)
    assert (runner._resume, runner._load_from) == (True, newest)


def test_a_damaged_one_is_warned_about(runner, tmp_path, caplog):
    before = write(tmp_path / 'epoch_1.pth')
    (tmp_path / 'epoch_2.pth').touch()
    ResumeHook().before_run(runner)
    assert runner._load_from == before
    assert caplog.messages == [f'{tmp_path}/epoch_2.pth is damaged, going on from {before} instead']


def test_there_is_nothing_to_resume(runner, tmp_path, caplog):
    ResumeHook().before_run(runner)
    assert (runner._resume, runner._load_from) == (False, None)
    assert caplog.messages == [f'no checkpoint in {tmp_path} to resume: training starts from the beginning']


@pytest.mark.parametrize(('resume', 'load_from'), [(True, 'a.pth'), (False, 'a.pth'), (False, None)])
def test_what_the_user_names_is_left(runner, tmp_path, resume, load_from):
    write(tmp_path / 'epoch_1.pth')
    runner._resume, runner._load_from = resume, load_from
    ResumeHook().before_run(runner)
    assert (runner._resume, runner._load_from) == (resume, load_from)


def test_each_rank_and_iteration_has_streams_of_its_own(runner, monkeypatch):
    def drawn(rank, iteration):
        monkeypatch.setattr('mmps_kd.engine.hooks.resume_hook.get_rank', lambda: rank)
        runner.iter = iteration
        ResumeHook().before_train_iter(runner, 0)
        return random.random(), np.random.random(), torch.rand(()).item()

    first = {key: drawn(*key) for key in ((0, 0), (0, 1), (1, 0), (1, 1))}
    assert all(len(set(stream)) == 4 for stream in zip(*first.values(), strict=True))
    assert first == {key: drawn(*key) for key in first}
