"""Checkpoint files: written atomically and found again."""

import errno
import json
import multiprocessing
import os
import resource
import signal

import pytest
import torch
from mmengine.fileio import get_file_backend

from mmps_kd.engine.checkpoint import (
    ATOMIC_BACKEND,
    checkpoints_by_age,
    last_checkpoint,
    last_test,
    last_validation,
    newest_checkpoint,
    require_writable,
    write_atomically,
)
from mmps_kd.errors import UserError


@pytest.fixture
def file(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    path.write_bytes(b'old')
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_content_is_replaced(file):
    write_atomically(file, b'new')
    assert file.read_bytes() == b'new'
    assert names(file.parent) == ['epoch_1.pth']


def test_the_backend_writes_atomically(file, monkeypatch):
    monkeypatch.setattr(os, 'replace', lambda *_: pytest.fail('content goes to another name first'))
    backend = get_file_backend(str(file), backend_args=dict(backend=ATOMIC_BACKEND))
    with pytest.raises(pytest.fail.Exception):
        backend.put(b'new', str(file))
    assert file.read_bytes() == b'old'


@pytest.mark.parametrize('step', ['fsync', 'replace'])
def test_a_full_disk_leaves_the_old_content_and_nothing_else(file, monkeypatch, step):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, full)
    with pytest.raises(UserError, match=r'epoch_1\.pth: No space left on device; earlier checkpoints are as they were'):
        write_atomically(file, b'new')
    monkeypatch.undo()
    assert file.read_bytes() == b'old'
    assert names(file.parent) == ['epoch_1.pth']


def write_beyond_limit(file):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        write_atomically(file, bytes(5000))
    except UserError:
        os._exit(3)


def test_a_real_limit_hit_in_the_middle(file):
    process = multiprocessing.get_context('fork').Process(target=write_beyond_limit, args=(file,))
    process.start()
    process.join()
    assert process.exitcode == 3
    assert file.read_bytes() == b'old'
    assert names(file.parent) == ['epoch_1.pth']


def die_before_replacing(file):
    os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    write_atomically(file, b'new')


def test_killed_while_writing(file):
    process = multiprocessing.get_context('fork').Process(target=die_before_replacing, args=(file,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert file.read_bytes() == b'old'
    write_atomically(file, b'new')  # what was left is overwritten
    assert names(file.parent) == ['epoch_1.pth']


def test_a_folder_that_cannot_be_made(file):
    with pytest.raises(
        UserError, match=r'cannot write to work_dir .*: Not a directory; fix that, or choose another --work-dir'
    ):
        require_writable(file / 'work')


def test_a_folder_that_cannot_be_written_to():
    if not os.path.isdir('/proc/self'):
        pytest.skip('needs a folder that even root cannot write to')
    with pytest.raises(UserError, match='cannot write to work_dir /proc/self'):
        require_writable('/proc/self')


def test_a_folder_is_made_and_left_empty(tmp_path):
    require_writable(tmp_path / 'a' / 'b')
    assert names(tmp_path / 'a') == ['b']
    assert names(tmp_path / 'a' / 'b') == []


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


def test_last_checkpoint(tmp_path):
    with pytest.raises(UserError, match='no trained model in'):
        last_checkpoint(tmp_path)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))
    assert last_checkpoint(tmp_path) == tmp_path / 'epoch_2.pth'


def test_last_validation(tmp_path):
    for start, value in (('20260101_000000', 0.1), ('20260102_000000', 0.2)):
        lines = [{'search/mAP': 0.0}, {'search/mAP': value}, {'loss': 1.0}]
        (tmp_path / start / 'vis_data').mkdir(parents=True)
        (tmp_path / start / 'vis_data/scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    assert last_validation(tmp_path) == {'search/mAP': 0.2}


def test_last_test(tmp_path):
    for start, value in (('20260101_000000', 0.1), ('20260102_000000', 0.2)):
        (tmp_path / start).mkdir()
        (tmp_path / start / f'{start}.json').write_text(json.dumps({'search/mAP': value}))
    assert last_test(tmp_path) == {'search/mAP': 0.2}
