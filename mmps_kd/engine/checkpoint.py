"""Checkpoint files: written atomically, on all ranks at once, and found again in a work dir."""

import json
import os
import re
import tempfile
from pathlib import Path
from zipfile import ZipFile

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.runner import Runner

from mmps_kd.errors import UserError
from mmps_kd.fileio import atomic_write

ATOMIC_BACKEND = 'atomic'
"""Name of :class:`AtomicBackend` in MMEngine's ``backend_args``."""

POINTER = 'last_checkpoint'
"""File in the work dir that names the newest checkpoint, as in MMEngine."""

INTERRUPTED = 'interrupted.pth'
"""Checkpoint of a run that was stopped by a signal."""

_NAME = re.compile(rf'(epoch|iter)_\d+\.pth|{re.escape(INTERRUPTED)}')


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file's content, see :func:`mmps_kd.fileio.atomic_write`.

    Raises:
        UserError: If it cannot be written.
    """
    try:
        with atomic_write(path) as file:
            file.write(content)
    except OSError as error:
        raise UserError(
            f'cannot write {path}: {error.strerror}; earlier checkpoints are as they were: make room or fix the '
            'folder, then continue with --resume'
        ) from None


class AtomicBackend(LocalBackend):
    """MMEngine's backend for local files that writes them atomically."""

    def put(self, obj: bytes, filepath: str | os.PathLike) -> None:
        """Write a file by :func:`write_atomically`."""
        write_atomically(Path(filepath), obj)


register_backend(ATOMIC_BACKEND, AtomicBackend, force=True)


def require_writable(folder: str | os.PathLike) -> None:
    """Make a folder, and check that files can be written there.

    Raises:
        UserError: If not.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b'.')
    except OSError as error:
        raise UserError(
            f'cannot write to work_dir {folder}: {error.strerror}; fix that, or choose another --work-dir'
        ) from None


def save_checkpoint(runner: Runner, path: Path, meta: dict, **kwargs) -> None:
    """Let the main process write a checkpoint and then the pointer to it; the other ranks wait.

    Args:
        runner: The runner.
        path: The file.
        meta: With ``epoch`` and ``iter`` that a resumed run starts with.
        **kwargs: As for ``Runner.save_checkpoint``.

    Raises:
        UserError: On the main process, if they cannot be written; the other ranks exit with code 1, so that no rank
            waits for a run that has ended.
    """
    failure = [None]
    try:
        kwargs.setdefault('backend_args', dict(backend=ATOMIC_BACKEND))
        runner.save_checkpoint(str(path.parent), path.name, meta=meta, **kwargs)
        if is_main_process():
            write_atomically(Path(runner.work_dir, POINTER), str(path).encode())
    except UserError as error:
        failure = [error]
    broadcast_object_list(failure)
    if failure[0] is not None:
        raise failure[0] if is_main_process() else SystemExit(1)


def newest_checkpoint(work_dir: Path) -> tuple[Path | None, list[Path]]:
    """The newest checkpoint that is intact: the one that ``last_checkpoint`` names, else the one written last.

    Args:
        work_dir: Of the run.

    Returns:
        The checkpoint, None if there is none; and the damaged ones that are newer.

    Raises:
        UserError: If there are checkpoints, and all are damaged.
    """
    damaged = []
    for path in checkpoints_by_age(work_dir):
        if is_whole(path):
            return path, damaged
        damaged.append(path)
    if damaged:
        raise UserError(
            f'--resume: {damaged[0]} is damaged, and so are all checkpoints before it: '
            'put a good one there, or train from the beginning without --resume'
        )
    return None, []


def is_whole(path: Path) -> bool:
    """Whether a file is as ``torch.save`` wrote it: a zip archive whose members match their checksums.

    ``torch.load`` notices a truncated file, but does not compare checksums.
    """
    try:
        with ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # a damaged archive makes zipfile raise anything from BadZipFile to UnicodeDecodeError
        return False


def checkpoints_by_age(work_dir: Path) -> list[Path]:
    """Checkpoints of a run, newest first."""
    pointer = work_dir / POINTER
    named = Path(pointer.read_text(errors='replace').strip()) if pointer.is_file() else work_dir
    folder = named.parent if named.is_file() else work_dir
    found = [path for path in folder.glob('*.pth') if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: (path.name == named.name, path.stat().st_mtime_ns, path.name), reverse=True)


def last_checkpoint(work_dir: Path) -> Path:
    """The checkpoint that a training wrote last.

    Raises:
        UserError: If there is none.
    """
    pointer = work_dir / POINTER
    if not pointer.is_file():
        raise UserError(f'there is no trained model in {work_dir}: train it first')
    return Path(pointer.read_text())


def last_validation(work_dir: Path) -> dict[str, float]:
    """Metrics that the newest start of a training logged last, by the names that they are logged under."""
    lines = sorted(work_dir.glob('*/vis_data/scalars.json'))[-1].read_text().splitlines()
    return [line for line in map(json.loads, lines) if 'search/mAP' in line][-1]


def last_test(work_dir: Path) -> dict[str, float]:
    """Metrics of the newest ``tools/test.py --work-dir``, by the names that they are logged under."""
    return json.loads(sorted(work_dir.glob('*/*.json'))[-1].read_text())
