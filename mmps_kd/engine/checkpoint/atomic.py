"""Files that are there whole, or as they were before."""

import os
import tempfile
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from mmps_kd.errors import UserError

ATOMIC_BACKEND = 'atomic'
"""Name of :class:`AtomicBackend` in MMEngine's ``backend_args``."""


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file's content in one step: a crash at any time leaves the old content or the new.

    The new content is brought to the disk under another name in the same folder first.

    Raises:
        UserError: If it cannot be written; the file is as it was, and nothing else is left behind.
    """
    temporary = path.with_name(f'{path.name}.tmp')
    try:
        with open(temporary, 'wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise UserError(
            f'cannot write {path}: {error.strerror}; earlier checkpoints are as they were: make room or mend the '
            'folder, then go on with --resume'
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def require_writable(folder: str | os.PathLike) -> None:
    """Make a folder, and see whether files can be written there.

    Raises:
        UserError: If not.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b'.')
    except OSError as error:
        raise UserError(
            f'cannot write to work_dir {folder}: {error.strerror}; mend that, or choose another --work-dir'
        ) from None


class AtomicBackend(LocalBackend):
    """MMEngine's backend for local files that writes them atomically."""

    def put(self, obj: bytes, filepath: str | os.PathLike) -> None:
        """Write a file by :func:`write_atomically`."""
        write_atomically(Path(filepath), obj)


register_backend(ATOMIC_BACKEND, AtomicBackend, force=True)


def _sync_folder(folder: Path) -> None:
    """Bring the folder's list of names to the disk, so that a new file is found after a power failure too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
