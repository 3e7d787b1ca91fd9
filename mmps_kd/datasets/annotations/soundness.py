"""What must hold for annotations before anything relies on them."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

import numpy as np

from mmps_kd.errors import UserError

from .structures import Annotations

LONGEST_NAME = 255 - len('.jpg.mat')  # bytes, as file systems allow; PRW's annotation of a frame has a longer name
LONGEST_PATH = 1000


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
    """Raise :class:`UserError` if a file name leads out of the folder that it belongs to, or is none at all.

    Names come from files that anybody may have made. Symbolic links inside the folder are followed: the owner of
    the disk made those.
    """
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or '..' in path.parts or not path.name or not name.isprintable():
            raise UserError(f'{source} names {name!r}: names are relative to the image folder and stay inside it')
        if len(name) > LONGEST_PATH or max(len(os.fsencode(part)) for part in path.parts) > LONGEST_NAME:
            raise UserError(f'{source} names {name[:30]}..., which is too long for a file')
