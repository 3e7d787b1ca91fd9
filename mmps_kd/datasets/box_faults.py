"""Boxes that do not fit their image."""

from dataclasses import dataclass, replace

import numpy as np

from mmps_kd.errors import UserError
from mmps_kd.structures import SearchProtocol

from .annotations import Annotations


@dataclass(frozen=True, eq=False)
class BoxFaults:
    """Which of M boxes do not fit, each mask (M,) bool; no box is in two of them.

    Attributes:
        empty: Width or height is not above zero.
        outside: No pixel of the image is inside.
        overhanging: A part is outside the image.
    """

    empty: np.ndarray
    outside: np.ndarray
    overhanging: np.ndarray


def find_box_faults(people: Annotations) -> BoxFaults:
    """Compare boxes with their images; ``people`` must have ``image_sizes``."""
    limits = people.image_sizes[people.image_of_box][:, ::-1]
    first, last = people.boxes[:, :2], people.boxes[:, 2:]
    empty = (last <= first).any(axis=1)
    outside = ((first >= limits) | (last <= 0)).any(axis=1) & ~empty
    overhanging = ((first < 0) | (last > limits)).any(axis=1) & ~empty & ~outside
    return BoxFaults(empty, outside, overhanging)


def queries_outside(protocol: SearchProtocol, people: Annotations) -> np.ndarray:
    """Which queries (Q,) have an empty box, or one outside their image; ``people`` must have ``image_sizes``."""
    index = {name: i for i, name in enumerate(people.image_names.tolist())}
    limits = people.image_sizes[[index[name] for name in protocol.query_images.tolist()]][:, ::-1]
    first, last = protocol.query_boxes[:, :2], protocol.query_boxes[:, 2:]
    return ~((last > first) & (first < limits) & (last > 0)).all(axis=1)


def mend_boxes(people: Annotations, faults: BoxFaults) -> Annotations:
    """Drop the empty boxes and those outside, cut off what hangs over."""
    limits = np.tile(people.image_sizes[people.image_of_box][:, ::-1], 2)
    return replace(people, boxes=people.boxes.clip(0, limits)).of_boxes(~(faults.empty | faults.outside))


def with_sizes(people: Annotations, sizes: np.ndarray) -> Annotations:
    """Add the sizes of the image files.

    Args:
        people: Annotations that may state sizes of their own, 0 where not.
        sizes: (N, 2) int64, height and width of the files.

    Raises:
        UserError: If the annotations state another size: their boxes then mean other pixels.
    """
    messages = []
    stated = sizes if people.image_sizes is None else np.where(people.image_sizes > 0, people.image_sizes, sizes)
    for image in np.flatnonzero((stated != sizes).any(axis=1)):
        (height, width), (stated_height, stated_width) = sizes[image].tolist(), stated[image].tolist()
        turned = (stated_height, stated_width) == (width, height)
        messages.append(
            f'{people.image_names[image]} has {width}x{height} pixels, its annotation says '
            f'{stated_width}x{stated_height}'
            f'{"; boxes are in pixels as stored, not as turned by EXIF" if turned else ""}'
            ': annotate the file as it is stored, or correct width and height'
        )
    if messages:
        raise UserError(*messages)
    return replace(people, image_sizes=sizes)
