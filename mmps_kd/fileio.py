"""Files: written atomically, locked; ``.npz`` files of unknown origin are read as plain arrays alone."""

import fcntl
import logging.config
import os
import zipfile
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_MOST_DEFLATED = 1032
"""Largest factor by which deflate compresses (zlib's documentation)."""


class DamagedNpzError(ValueError):
    """The file is no whole ``.npz`` of plain arrays."""


def read_npz(path: str | os.PathLike, keys: Container[str] | None = None) -> dict[str, np.ndarray]:
    """Read arrays. Nothing is unpickled, and an array's size is believed only if the file can hold it.

    Args:
        path: File to read.
        keys: What to read of it, where it is there; None for everything.

    Raises:
        FileNotFoundError: If there is no file.
        DamagedNpzError: If it is truncated, damaged, holds objects, or claims more than it can hold.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix('.npy'): info for info in archive.infolist()}
            wanted = {key: info for key, info in members.items() if keys is None or key in keys}
            size = os.path.getsize(path)
            return {key: _read_member(archive, info, size) for key, info in wanted.items()}
    except FileNotFoundError:
        raise
    except Exception as error:  # anything from struct.error to NotImplementedError, by where the damage lies
        raise DamagedNpzError(f'{path} is damaged or no npz of plain arrays ({type(error).__name__})') from error


@contextmanager
def atomic_write(path: str | os.PathLike, suffix: str = '.tmp') -> Iterator[BinaryIO]:
    """Open a file that replaces ``path`` when the block ends: a crash at any time leaves the old content or the new.

    The new content is brought to the disk under another name in the same folder first. After an exception ``path`` is
    as it was, and nothing else is left behind.

    Args:
        path: The file.
        suffix: Of the other name; it has to differ between processes that may write the file at the same time.

    Raises:
        OSError: If it cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f'{path.name}{suffix}')
    try:
        with open(temporary, 'wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        # The folder's list of names too, so that the file is found after a power failure.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: str | os.PathLike) -> Iterator[None]:
    """Wait until no other process holds the lock of this file, which is made and stays.

    The system frees the lock of a process that dies.

    Raises:
        OSError: If the file cannot be written.
    """
    with open(path, 'a') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_npz(path: str | os.PathLike, **arrays: np.ndarray) -> None:
    """Write arrays atomically."""
    with atomic_write(path) as file:
        np.savez(file, **arrays)


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, archive_size: int) -> np.ndarray:
    # NumPy allocates by the header before it reads a byte: compare the header with the size of the file first.
    with archive.open(info) as stream:
        shape, _, dtype = _HEADERS[npy.read_magic(stream)](stream)
        claimed = stream.tell() + dtype.itemsize * int(np.prod(shape, dtype=object))
    packed = min(info.compress_size, archive_size)
    if claimed != info.file_size or claimed > _MOST_DEFLATED * packed:
        raise DamagedNpzError(f'{info.filename} claims {claimed} bytes')
    with archive.open(info) as stream:
        array = npy.read_array(stream, allow_pickle=False)
        stream.read()  # to the end, where the checksum is compared
    return array


@contextmanager
def keep_log_files() -> Iterator[None]:
    """Keep the log files of this process open while a library sets up its logging.

    pymilvus (when it is imported) and uvicorn call ``logging.config.dictConfig``, which closes the handlers of all
    loggers. MMEngine's logger then fails at its next line. Within this context ``dictConfig`` does nothing.
    """
    configure = logging.config.dictConfig
    logging.config.dictConfig = lambda config: None
    try:
        yield
    finally:
        logging.config.dictConfig = configure
