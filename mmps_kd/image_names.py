"""Names of image files as annotations and results files write them."""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath


def name_in_folder(name: str, folder: str | os.PathLike | None = None) -> str:
    r"""Write a name as the file below the image folder has it.

    ``//`` and ``./`` are removed. Windows' ``\`` becomes ``/``, unless the folder has a file whose name really
    contains it. A name that the folder has in another Unicode normal form only is written in that form: macOS and Linux
    differ.

    Args:
        name: Relative to the folder.
        folder: The image folder; None if it is not known.
    """

    def exists(candidate: str) -> bool:
        return folder is not None and os.path.exists(os.path.join(folder, candidate))

    if '\\' in name and not exists(name):
        name = name.replace('\\', '/')
    name = PurePosixPath(name).as_posix()
    if not name.isascii() and not exists(name):
        forms = (unicodedata.normalize(form, name) for form in ('NFC', 'NFD'))
        name = next(filter(exists, forms), name)
    return name


def fold_name(name: str) -> str:
    """A key that is the same for names that differ in case, Unicode form, separators or ``./`` only."""
    return unicodedata.normalize('NFC', PurePosixPath(name.replace('\\', '/')).as_posix()).casefold()


def near_name(name: str, names: Iterable[str]) -> str:
    """`` (there is ...)`` for a message, with the first of ``names`` that differs as :func:`fold_name` says, or ''."""
    key = fold_name(name)
    near = next((other for other in names if fold_name(other) == key), None)
    return '' if near is None else f' (there is {near!r}{_difference(name, near)})'


def near_files(folder: Path, names: Sequence[str]) -> list[str]:
    """For missing files, what :func:`near_name` says of the files in ``folder``; '' where there is no near name."""
    listings = {}

    def near(name: str) -> str:
        found = folder
        for part in PurePosixPath(name.replace('\\', '/')).parts:
            if found not in listings:
                entries = os.listdir(found) if found.is_dir() else []
                listings[found] = {fold_name(entry): entry for entry in sorted(entries, reverse=True)}
            entry = part if (found / part).exists() else listings[found].get(fold_name(part))
            if entry is None:
                return ''
            found = found / entry
        other = found.relative_to(folder).as_posix()
        return f' (there is {other!r}{_difference(name, other)})'

    return [near(name) for name in names]


def _difference(name: str, near: str) -> str:
    """What a reader cannot see: two names that look alike."""
    same = unicodedata.normalize('NFC', name) == unicodedata.normalize('NFC', near)
    return ', in another Unicode normal form' if same else ''
