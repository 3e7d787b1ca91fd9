"""Files that are whole or as before, whatever goes wrong while they are written."""

import errno
import multiprocessing
import os
import resource
import signal

import pytest
from mmengine.fileio import get_file_backend

from mmps_kd.engine.checkpoint import ATOMIC_BACKEND, require_writable, write_atomically
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
        UserError, match=r'cannot write to work_dir .*: Not a directory; mend that, or choose another --work-dir'
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
