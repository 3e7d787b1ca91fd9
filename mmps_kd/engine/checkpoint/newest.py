"""Which checkpoint a run goes on from."""

import re
from pathlib import Path
from zipfile import ZipFile

from mmps_kd.errors import UserError

from .save import INTERRUPTED, POINTER

_NAME = re.compile(rf'(epoch|iter)_\d+\.pth|{re.escape(INTERRUPTED)}')


def newest_checkpoint(work_dir: Path) -> tuple[Path | None, list[Path]]:
    """The newest checkpoint that is whole.

    It is the one that ``last_checkpoint`` names, or the one written last if that is missing or damaged.

    Args:
        work_dir: Of the run.

    Returns:
        The checkpoint, None if there is none; and those that are newer, but damaged.

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
    """Whether a file is as ``torch.save`` wrote it: a zip archive whose parts have their checksums.

    ``torch.load`` finds out when a file was cut short, but does not look at the checksums.
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
