"""Looking at boxes and identities."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmps_kd.datasets.annotations import Annotations
from mmps_kd.datasets.annotations.structures import rare_identities
from mmps_kd.datasets.box_faults import find_box_faults, queries_outside, with_sizes
from mmps_kd.datasets.image_files import read_sizes
from mmps_kd.errors import UserError
from mmps_kd.structures import SearchProtocol

from .findings import Finding


def present(folder: Path, names: np.ndarray) -> np.ndarray:
    """Which images (N,) are files."""
    return np.array([(folder / name).is_file() for name in names.tolist()], dtype=bool)


def inspect_people(split: str, people: Annotations) -> Iterator[Finding]:
    """What the annotations alone show."""
    people = people.of_boxes(~people.ignored)
    unlabelled = np.bincount(people.image_of_box[people.pids >= 0], minlength=len(people.num_boxes)) == 0
    for what, mask in (
        ('nobody in it', people.num_boxes == 0),
        ('only unlabelled people in it', unlabelled & (people.num_boxes > 0)),
    ):
        for name in people.image_names[mask].tolist():
            yield Finding(split, what, name, serious=False)
    for pid in rare_identities(people).tolist():
        image = people.image_names[people.image_of_box[people.pids == pid][0]]
        yield Finding(split, 'identity seen in one image only', image, f'identity {pid}', serious=False)


def inspect_boxes(split: str, folder: Path, people: Annotations, protocol: SearchProtocol | None) -> Iterator[Finding]:
    """What shows when boxes are compared with their images.

    Args:
        split: For the findings.
        folder: Where the images are.
        people: People of images that can be read.
        protocol: The queries, for a test set; only those in these images are looked at.
    """
    try:
        people = with_sizes(people, read_sizes(folder, people.image_names.tolist()))
    except UserError as error:
        for message in error.messages:
            yield Finding(split, 'size differs', str(folder), message)
        return
    faults = find_box_faults(people)
    for what, mask, serious in (
        ('box of zero width or height: dropped', faults.empty, True),
        ('box outside its image: dropped', faults.outside, True),
        ('box hangs over the edge: cut', faults.overhanging, False),
    ):
        for box in np.flatnonzero(mask):
            name = people.image_names[people.image_of_box[box]]
            yield Finding(split, what, name, f'{people.boxes[box].tolist()} (x1, y1, x2, y2)', serious)
    if protocol is not None:
        for query in np.flatnonzero(queries_outside(protocol, people)):
            detail = f'query {query}: {protocol.query_boxes[query].tolist()} (x1, y1, x2, y2)'
            yield Finding(split, 'query box empty or outside its image', protocol.query_images[query], detail)
