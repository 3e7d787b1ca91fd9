"""``.npz`` files: written in one step; of those that come from elsewhere, plain arrays alone are read."""

import os
import zipfile
from collections.abc import Container
from pathlib import Path

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


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """Write beside it first: an interruption leaves an older file whole."""
    beside = path.with_name(f'{path.name}.tmp')
    with open(beside, 'wb') as file:
        np.savez(file, **arrays)
    os.replace(beside, path)


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, archive_size: int) -> np.ndarray:
    """NumPy asks for an array's memory by its header, before a byte is read: look at the header first."""
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
