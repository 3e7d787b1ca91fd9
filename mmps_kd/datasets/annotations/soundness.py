"""What must hold for annotations before anything relies on them."""

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

import numpy as np

from mmps_kd.errors import UserError

from .structures import Annotations

LONGEST_NAME = 255 - len('.jpg.mat')  # bytes, as file systems allow; PRW's annotation of a frame has a longer name
LONGEST_PATH = 1000
NOT_IN_NAMES = re.compile('[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')
"""Control characters, line breaks, and halves of surrogate pairs."""
DRIVE = re.compile('[A-Za-z]:')


def sound(people: Annotations, source: str) -> Annotations:
    """Give annotations back if every image is named once, below the image folder, and every box is a number.

    Args:
        people: As a reader found them.
        source: Where, for messages.

    Raises:
        UserError: Naming the first entry that is wrong.
    """
    names = people.image_names.tolist()
    require_inside(names, source)
    if len(set(names)) < len(names):
        name, times = Counter(names).most_common(1)[0]
        raise UserError(f'{source} lists image {name} {times} times: list each image once')
    wrong = np.flatnonzero(~np.isfinite(people.boxes).all(axis=1))
    if len(wrong):
        image = names[people.image_of_box[wrong[0]]]
        raise UserError(f'{source}: a box of {image} is not finite: correct or remove it')
    return people


def require_inside(names: Iterable[str], source: str) -> None:
    """Raise :class:`UserError` for the first name with a :func:`name_fault`."""
    for name in names:
        if fault := name_fault(name):
            raise UserError(f'{source} names {fault}')


def name_fault(name: str) -> str | None:
    """Say why a file name cannot be used: it leads out of the folder that it belongs to, or no file is called so.

    Names come from files that anybody may have made, on any system: drive letters and Windows' separators count too.
    Symbolic links inside the folder are followed: the owner of the disk made those. Spaces and invisible letters of
    any kind are ordinary letters of a name.

    Returns:
        The name, shortened, and what is wrong with it; None for a good name.
    """
    shown = repr(name if len(name) <= 60 else f'{name[:30]}...')
    if NOT_IN_NAMES.search(name):
        return f'{shown}, which holds a control character or is no valid Unicode: rename the file'
    path = PurePosixPath(name.replace('\\', '/'))
    if path.is_absolute() or DRIVE.match(name) or '..' in path.parts or not path.name:
        return f'{shown}: names are relative to the image folder and stay inside it'
    if len(name) > LONGEST_PATH or max(len(os.fsencode(part)) for part in path.parts) > LONGEST_NAME:
        return f'{shown}, which is too long for a file'
    return None
