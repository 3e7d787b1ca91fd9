"""Runs that are told to stop, run out of disk, or find a damaged checkpoint: nothing is lost, and the user is told."""

import resource
import shutil
import signal
from functools import partial

import pytest

from mmps_kd.engine.checkpoint import checkpoints_by_age, is_whole

WORKER = ['train_dataloader.num_workers=1', 'train_dataloader.persistent_workers=True']
VALIDATE = ['train_cfg.val_begin=1']
ONE_EPOCH = ['train_cfg.max_epochs=1']


def names(folder):
    return {path.name for path in folder.iterdir() if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('workers', [[], WORKER], ids=['main process', 'worker'])
def test_a_signal_saves_and_the_run_goes_on(runs, tmp_path, number, workers):
    kill = dict(point='before_train_iter', count=8, signal=number, whom='group')
    stopped = runs.train('plain', tmp_path, workers, kill=kill)
    assert stopped.code == 128 + number
    assert (
        f'{number.name}: saved {tmp_path}/interrupted.pth after iteration 9; '
        'to go on, start the same command with --resume'
    ) in stopped.output
    assert 'Traceback' not in stopped.output
    resumed = runs.train('plain', tmp_path, workers, resume=True)
    assert resumed.code == 0, resumed.output
    assert 'resumed epoch: 1, iter: 9' in resumed.output
    assert 'Epoch(train) [2][6/6]' in resumed.output
    assert runs.differences(tmp_path, runs.straight('plain')) == []


@pytest.mark.slow
def test_torchrun_is_told_to_stop(runs, tmp_path):
    """It hands the signal on to all ranks; they stop after the same iteration."""
    options = ['train_dataloader.batch_size=1', *WORKER]
    kill = dict(point='before_train_iter', count=2, signal=signal.SIGTERM, whom='parent')
    stopped = runs.train('everything', tmp_path, options, kill=kill, ranks=2)
    assert stopped.code != 0
    assert f'SIGTERM: saved {tmp_path}/interrupted.pth after iteration ' in stopped.output
    assert 'DataLoader' not in stopped.output
    assert runs.train('everything', tmp_path, options, resume=True, ranks=2).code == 0
    straight = runs.straight('everything', ['train_dataloader.batch_size=1'], ranks=2)
    assert runs.differences(tmp_path, straight) == []


@pytest.mark.slow
def test_a_signal_in_validation_stops_at_once(runs, tmp_path):
    kill = dict(point='before_val_iter', count=3, signal=signal.SIGTERM)
    stopped = runs.train('ema', tmp_path, VALIDATE, kill=kill)
    assert stopped.code == 128 + signal.SIGTERM
    assert 'SIGTERM: stopped in validation; to go on' in stopped.output
    assert not (tmp_path / 'interrupted.pth').exists()
    assert runs.train('ema', tmp_path, resume=True).code == 0
    assert runs.differences(tmp_path, runs.straight('ema')) == []


@pytest.mark.slow
def test_a_full_disk_leaves_earlier_checkpoints(runs, tmp_path):
    kill = dict(point='before_train_iter', count=7, signal=signal.SIGKILL)
    assert runs.train('plain', tmp_path, kill=kill).code == -signal.SIGKILL
    before = (tmp_path / 'epoch_1.pth').read_bytes()

    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (len(before) // 2, len(before) // 2))
    failed = runs.train('plain', tmp_path, resume=True, before=limit)
    assert failed.code == 1
    assert failed.output.splitlines()[-1].startswith(f'error: cannot write {tmp_path}/epoch_2.pth: File too large; ')
    assert 'Traceback' not in failed.output
    assert (tmp_path / 'epoch_1.pth').read_bytes() == before
    assert names(tmp_path) == {'epoch_1.pth', 'last_checkpoint', 'plain.py'}
    assert runs.train('plain', tmp_path, resume=True).code == 0
    assert runs.differences(tmp_path, runs.straight('plain')) == []


@pytest.mark.slow
def test_a_damaged_newest_checkpoint(runs, tmp_path):
    by_iteration = ['default_hooks.checkpoint.by_epoch=False', 'default_hooks.checkpoint.interval=2']
    kill = dict(point='before_train_iter', count=9, signal=signal.SIGKILL)
    assert runs.train('plain', tmp_path, by_iteration, kill=kill).code == -signal.SIGKILL
    assert names(tmp_path) == {'iter_4.pth', 'iter_6.pth', 'iter_8.pth', 'last_checkpoint', 'plain.py'}
    with open(tmp_path / 'iter_8.pth', 'r+b') as file:
        file.truncate(1000)
    resumed = runs.train('plain', tmp_path, by_iteration, resume=True)
    assert resumed.code == 0, resumed.output
    assert f'{tmp_path}/iter_8.pth is damaged, going on from {tmp_path}/iter_6.pth instead' in resumed.output
    assert all(map(is_whole, checkpoints_by_age(tmp_path)))
    assert runs.differences(tmp_path, runs.straight('plain', by_iteration)) == []


@pytest.mark.slow
def test_only_the_last_checkpoint_is_kept_and_never_none(runs, tmp_path):
    """It is killed where the last one is just being written: the one before is still there."""
    options = ['default_hooks.checkpoint.max_keep_ckpts=1']
    kill = dict(point='before_save_checkpoint', count=1, signal=signal.SIGKILL)
    assert runs.train('plain', tmp_path, options, kill=kill).code == -signal.SIGKILL
    assert [path.name for path in checkpoints_by_age(tmp_path)] == ['epoch_1.pth']
    assert runs.train('plain', tmp_path, options, resume=True).code == 0
    assert [path.name for path in checkpoints_by_age(tmp_path)] == ['epoch_2.pth']


def test_an_unwritable_work_dir_is_noticed_before_anything_is_built(runs, tmp_path):
    (tmp_path / 'file').touch()
    failed = runs.train('plain', tmp_path / 'file' / 'work')
    assert failed.code == 1
    (line,) = failed.output.splitlines()
    assert line.startswith(f'error: cannot write to work_dir {tmp_path}/file/work: Not a directory; ')


def test_an_error_of_a_worker_is_one_line(runs, tiny_cuhk_sysu, tmp_path):
    """Damage that the headers do not show is found by the process that decodes the image."""
    root = tmp_path / 'data'
    shutil.copytree(tiny_cuhk_sysu, root)
    for path in (root / 'Image/SSM').iterdir():
        path.write_bytes(path.read_bytes()[:1500])
    options = [*ONE_EPOCH, *WORKER, f'train_dataloader.dataset.data_root={root}/']
    failed = runs.train('plain', tmp_path / 'work', options)
    assert failed.code == 1
    assert failed.output.splitlines()[-1].startswith(f'error: {root}/Image/SSM/s')
    assert 'Traceback' not in failed.output
