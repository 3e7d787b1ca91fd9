"""Which files are there while and after checkpoints are written."""

from collections import deque
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmps_kd.engine import AtomicCheckpointHook
from mmps_kd.errors import UserError


class Runner:
    """Writes empty checkpoints, and notes what was there at that moment."""

    def __init__(self, work_dir):
        self.work_dir = str(work_dir)
        self.message_hub = SimpleNamespace(update_info=lambda key, value: None)
        self.seen = []

    def save_checkpoint(self, out_dir, name, meta, **kwargs):
        self.seen.append(checkpoints(out_dir))
        assert kwargs['backend_args'] == dict(backend='atomic')
        Path(out_dir, name).touch()


def checkpoints(folder):
    return sorted(path.name for path in Path(folder).glob('*.pth'))


def hook_of(work_dir, kept=(), **kwargs):
    hook = AtomicCheckpointHook(interval=1, **kwargs)
    hook.out_dir = str(work_dir)
    hook.keep_ckpt_ids = deque(kept, hook.max_keep_ckpts if hook.max_keep_ckpts > 0 else None)
    return hook


@pytest.mark.parametrize(
    ('number', 'during', 'after'),
    [
        (1, [[], ['1'], ['2']], ['3']),
        (2, [[], ['1'], ['1', '2']], ['2', '3']),
        (-1, [[], ['1'], ['1', '2']], ['1', '2', '3']),
    ],
)
def test_the_oldest_is_removed_after_the_newest_is_written(tmp_path, number, during, after):
    runner, hook = Runner(tmp_path), hook_of(tmp_path, max_keep_ckpts=number)
    for step in (1, 2, 3):
        hook._save_checkpoint_with_step(runner, step, {})
    assert runner.seen == [[f'epoch_{step}.pth' for step in steps] for steps in during]
    assert checkpoints(tmp_path) == [f'epoch_{step}.pth' for step in after]
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_3.pth')


def test_a_step_that_is_written_again_stays(tmp_path):
    runner, hook = Runner(tmp_path), hook_of(tmp_path, max_keep_ckpts=2)
    for step in (1, 2, 2):
        hook._save_checkpoint_with_step(runner, step, {})
    assert checkpoints(tmp_path) == ['epoch_1.pth', 'epoch_2.pth']


def test_an_old_file_that_is_gone(tmp_path):
    hook_of(tmp_path, kept=[1], max_keep_ckpts=1)._save_checkpoint_with_step(Runner(tmp_path), 2, {})
    assert checkpoints(tmp_path) == ['epoch_2.pth']


def test_the_oldest_stays_when_the_newest_cannot_be_written(tmp_path):
    runner, hook = Runner(tmp_path), hook_of(tmp_path, max_keep_ckpts=1)
    hook._save_checkpoint_with_step(runner, 1, {})

    def fail(*args, **kwargs):
        raise UserError('no room')

    runner.save_checkpoint = fail
    with pytest.raises(UserError, match='no room'):
        hook._save_checkpoint_with_step(runner, 2, {})
    assert checkpoints(tmp_path) == ['epoch_1.pth']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_1.pth')
