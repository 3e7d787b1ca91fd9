"""Cache of parsed annotations on disk."""

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from mmps_kd.fileio import DamagedNpzError, atomic_write, read_npz

FORMAT_VERSION = 2
"""Raised whenever a reader changes what it stores."""


def cache_folder() -> Path:
    """``$MMPS_CACHE/annotations``, by default ``~/.cache/mmps_kd/annotations`` (or under ``$XDG_CACHE_HOME``)."""
    user_cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    return Path(os.environ.get('MMPS_CACHE') or user_cache / 'mmps_kd') / 'annotations'


def cached(name: str, sources: Sequence[Path], parse: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return ``parse()``, from the cache if no source changed since it was stored there.

    Nothing is cached in a folder that cannot be written to. A damaged cache file is replaced.

    Args:
        name: What is cached, the beginning of the cache file's name.
        sources: Existing files that ``parse`` reads; path, size and modification time make the key.
        parse: Gives the arrays; none of them of dtype object.
    """
    paths = '\n'.join(os.path.abspath(source) for source in sources)
    path = cache_folder() / f'{name}-{_digest(paths)}.npz'
    state = _digest('\n'.join(_state(source) for source in sources))
    arrays = _load(path, state)
    if arrays is None:
        arrays = parse()
        _store(path, {**arrays, 'state': np.array(_seal(arrays, state))})
    return arrays


def _digest(text: str) -> str:
    return hashlib.sha256(f'{FORMAT_VERSION}\n{text}'.encode()).hexdigest()[:24]


def _state(source: Path) -> str:
    stat = source.stat()
    return f'{stat.st_size} {stat.st_mtime_ns}'


def _seal(arrays: dict[str, np.ndarray], state: str) -> str:
    """Digest of the sources' state and of every array, which detects a damaged or changed cache file."""
    digest = hashlib.sha256(state.encode())
    for key in sorted(arrays):
        array = np.ascontiguousarray(arrays[key])
        digest.update(f'{key} {array.dtype} {array.shape}'.encode() + array.tobytes())
    return digest.hexdigest()


def _load(path: Path, state: str) -> dict[str, np.ndarray] | None:
    if not path.is_file():
        return None
    try:
        arrays = read_npz(path)
    except (OSError, DamagedNpzError):
        return None
    seal = str(arrays.pop('state', ''))
    return arrays if seal == _seal(arrays, state) else None


def _store(path: Path, arrays: dict[str, np.ndarray]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Several processes may parse at the same time: each has a temporary file of its own.
        with atomic_write(path, suffix=f'.{os.getpid()}.tmp') as file:
            np.savez(file, **arrays)
    except OSError as error:
        _warn_once(f'{path.parent} cannot be written to ({error.strerror}): parsed annotations are not cached')


@cache
def _warn_once(message: str) -> None:
    print_log(message, logger='current', level=logging.WARNING)
