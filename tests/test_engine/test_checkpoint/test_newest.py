"""Which checkpoint is found, and how a damaged one is told from a good one."""

import os

import pytest
import torch

from mmps_kd.engine.checkpoint import checkpoints_by_age, newest_checkpoint
from mmps_kd.errors import UserError


@pytest.fixture
def work_dir(tmp_path):
    """Three checkpoints, the one named last is the newest, and files that are none of the run's."""
    for age, name in enumerate(['best_search_mAP_epoch_3.pth', 'epoch_10.pth', 'epoch_9.pth', 'interrupted.pth']):
        torch.save(dict(meta={}, state_dict=dict(weight=torch.full((1000,), age))), tmp_path / name)
        os.utime(tmp_path / name, ns=(age, age))
    for name in ('student.pth', 'epoch_11.pth.tmp', 'epoch_9-0a1b2c3d.pth', 'final.pth'):
        (tmp_path / name).write_bytes(b'')
    point_to(tmp_path, 'interrupted.pth')
    return tmp_path


def point_to(work_dir, name):
    (work_dir / 'last_checkpoint').write_text(str(work_dir / name))


def test_the_run_s_own_files_newest_first(work_dir):
    assert [path.name for path in checkpoints_by_age(work_dir)] == ['interrupted.pth', 'epoch_9.pth', 'epoch_10.pth']


def test_the_pointer_comes_before_the_age(work_dir):
    point_to(work_dir, 'epoch_10.pth')
    assert newest_checkpoint(work_dir) == (work_dir / 'epoch_10.pth', [])


@pytest.mark.parametrize('content', [b'', b'\xff\x00', b'/nowhere/epoch_1.pth'])
def test_a_useless_pointer(work_dir, content):
    (work_dir / 'last_checkpoint').write_bytes(content)
    assert newest_checkpoint(work_dir) == (work_dir / 'interrupted.pth', [])
    (work_dir / 'last_checkpoint').unlink()
    assert newest_checkpoint(work_dir) == (work_dir / 'interrupted.pth', [])


def test_a_pointer_to_another_folder(work_dir, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp('run')
    (elsewhere / 'last_checkpoint').write_text(str(work_dir / 'epoch_9.pth'))
    assert newest_checkpoint(elsewhere) == (work_dir / 'epoch_9.pth', [])


def cut(content, share):
    return content[: int(share * len(content))]


def flip(content, place):
    place = int(place * len(content))
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


@pytest.mark.parametrize(
    'harm',
    [lambda c: b'', lambda c: bytes(len(c))]
    + [lambda c, share=share: cut(c, share) for share in (0.01, 0.5, 0.9, 0.999)]
    + [lambda c, place=place: flip(c, place) for place in (0.4, 0.5, 0.6)],
)
def test_the_one_before_a_damaged_one(work_dir, harm):
    for name in ('interrupted.pth', 'epoch_9.pth'):
        content = harm((work_dir / name).read_bytes())
        (work_dir / name).write_bytes(content)
    found, damaged = newest_checkpoint(work_dir)
    assert found == work_dir / 'epoch_10.pth'
    assert [path.name for path in damaged] == ['interrupted.pth', 'epoch_9.pth']


def test_all_are_damaged(work_dir):
    for path in checkpoints_by_age(work_dir):
        path.write_bytes(b'')
    with pytest.raises(UserError, match='interrupted.pth is damaged, and so are all checkpoints before it'):
        newest_checkpoint(work_dir)


def test_none_is_there(tmp_path):
    assert newest_checkpoint(tmp_path) == (None, [])
