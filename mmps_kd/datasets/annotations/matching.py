"""Who is who: identities are listed apart from the boxes of an image and matched to them."""

import logging
from dataclasses import replace

import numpy as np
from mmengine.logging import print_log

from mmps_kd.errors import UserError

from .structures import Annotations


def with_identities(
    annotations: Annotations, image_names: np.ndarray, boxes: np.ndarray, pids: np.ndarray, source: str
) -> Annotations:
    """Give boxes the identities of the A listed appearances that have exactly the same box in the same image.

    As in the field, an appearance without an equal box gives nobody an identity (a warning counts them), and of
    several equal boxes the first gets it.

    Args:
        annotations: People without identity.
        image_names: (A,) str, image of each appearance.
        boxes: (A, 4) float64, x1, y1, x2, y2.
        pids: (A,) int64.
        source: File that lists the appearances, for messages.

    Raises:
        UserError: If an appearance lies in an image that ``annotations`` do not have.
    """
    index = {name: i for i, name in enumerate(annotations.image_names.tolist())}
    unknown = [name for name in image_names.tolist() if name not in index]
    if unknown:
        raise UserError(f'{source} names {unknown[0]}, which Images.mat does not list; get both files from one place')
    listed = np.column_stack([annotations.image_of_box, annotations.boxes])
    wanted = np.column_stack([[index[name] for name in image_names.tolist()], boxes])
    rows = np.concatenate([listed, wanted])
    _, first, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    matches = first[group.reshape(-1)[len(listed) :]]  # the first equal row: a listed box, or itself if there is none
    found = matches < len(listed)
    _warn_of_strangers(image_names, boxes, ~found, source)
    labels = annotations.pids.copy()
    labels[matches[found]] = pids[found]
    return replace(annotations, pids=labels)


def _warn_of_strangers(image_names: np.ndarray, boxes: np.ndarray, unmatched: np.ndarray, source: str) -> None:
    if not unmatched.any():
        return
    first = np.flatnonzero(unmatched)[0]
    print_log(
        f'{source}: {unmatched.sum()} of {len(unmatched)} boxes are not in Images.mat and give no identity, '
        f'first {boxes[first].tolist()} (x1, y1, x2, y2) in {image_names[first]}',
        logger='current',
        level=logging.WARNING,
    )
