"""The contents of a data set: its sizes, the identities in each image, the annotations, the random generators."""

from typing import NamedTuple

import numpy as np

from mmps_kd.errors import UserError
from mmps_kd.structures import UNLABELLED

from .background import LARGEST

# First key of every random generator, so that no two parts share one.
PLAN, IMAGE, IDENTITY, PLACE, ANNOTATION = range(5)


class SplitSize(NamedTuple):
    """Size of one split; each identity is seen in ``appearances`` (fewest, most) different images."""

    images: int
    identities: int
    appearances: tuple[int, int]


class DatasetSize(NamedTuple):
    """Size of a data set.

    Attributes:
        width, height: Of the images, in pixels.
        train, test: Size of both splits.
        queries: Number of queries.
        unlabelled: Fewest and most unlabelled persons of an image.
        alike: Number of identities who wear the same top and trousers; they differ by build, hair, shoes, bag and hat.
        largest: Scale of the nearest persons, in image heights a metre.
    """

    width: int
    height: int
    train: SplitSize
    test: SplitSize
    queries: int
    unlabelled: tuple[int, int]
    alike: int = 1
    largest: float = LARGEST


# `full` has the counts of the real data sets: images, identities, training identities and queries.
# `hard` is `mini` with smaller people in crowds, each dressed like three others.
# fmt: off
SIZES = {
    ('cuhk-sysu', 'tiny'): DatasetSize(160, 120, SplitSize(12, 6, (3, 4)), SplitSize(12, 5, (3, 4)), 5, (0, 1)),
    ('cuhk-sysu', 'mini'): DatasetSize(400, 300, SplitSize(600, 200, (10, 12)), SplitSize(160, 60, (4, 6)), 60, (1, 2)),
    ('cuhk-sysu', 'hard'):
        DatasetSize(
            400, 300, SplitSize(600, 200, (10, 12)), SplitSize(160, 60, (4, 6)), 60, (3, 5), alike=4, largest=0.22
        ),
    ('cuhk-sysu', 'full'):
        DatasetSize(480, 360, SplitSize(11206, 5532, (2, 4)), SplitSize(6978, 2900, (2, 4)), 2900, (1, 4)),
    ('prw', 'tiny'): DatasetSize(160, 120, SplitSize(12, 6, (3, 4)), SplitSize(12, 5, (3, 4)), 8, (0, 1)),
    ('prw', 'mini'): DatasetSize(400, 300, SplitSize(240, 80, (5, 7)), SplitSize(160, 60, (4, 6)), 90, (1, 2)),
    ('prw', 'full'):
        DatasetSize(480, 360, SplitSize(5704, 483, (20, 42)), SplitSize(6112, 449, (30, 54)), 2057, (0, 2)),
}
# fmt: on


class ImagePlan(NamedTuple):
    """One image to render: its split, file name and identities (0.. over both splits)."""

    index: int
    split: str
    name: str
    identities: tuple[int, ...]


class PersonBox(NamedTuple):
    """An annotated person: identity or UNLABELLED, x y w h in whole pixels, visible fraction 0..1."""

    identity: int
    xywh: tuple[int, int, int, int]
    visible: float


class ImageRecord(NamedTuple):
    """A rendered image and its annotations."""

    name: str
    split: str
    boxes: tuple[PersonBox, ...]


def dataset_size(layout: str, size: str) -> DatasetSize:
    """Look a size up.

    Raises:
        UserError: If there is no such layout or size.
    """
    if (layout, size) not in SIZES:
        known = ', '.join(' '.join(key) for key in SIZES)
        raise UserError(f'no synthetic data set {layout!r} {size!r}: choose one of {known}')
    return SIZES[layout, size]


def generator(seed: int, part: int, index: int = 0) -> np.random.Generator:
    """Random generator of one part (image, identity, ...), independent of process and order."""
    return np.random.default_rng(np.random.SeedSequence([seed, part, index]))


def plan_images(size: DatasetSize, names: list[str], seed: int) -> list[ImagePlan]:
    """Plan every image: the training images first, then the test images; ``names`` in that order."""
    rng = generator(seed, PLAN)
    plans: list[ImagePlan] = []
    for split, counts, first in (('train', size.train, 0), ('test', size.test, size.train.identities)):
        images: list[list[int]] = [[] for _ in range(counts.images)]
        # Identities are dealt to the images like cards: evenly, and never twice to one image.
        deck: list[int] = []
        for identity in rng.permutation(counts.identities):
            appearances = rng.integers(*counts.appearances, endpoint=True)
            if len(deck) < appearances:
                deck = rng.permutation(counts.images).tolist()
            for _ in range(appearances):
                images[deck.pop()].append(first + int(identity))
        for identities in images:
            plans.append(ImagePlan(len(plans), split, names[len(plans)], tuple(identities)))
    return plans


def boxes_by_identity(records: list[ImageRecord], split: str) -> dict[int, list[tuple[str, PersonBox]]]:
    """Image names and boxes of every labelled identity of a split, identities ascending."""
    found: dict[int, list[tuple[str, PersonBox]]] = {}
    for record in records:
        for box in record.boxes:
            if record.split == split and box.identity != UNLABELLED:
                found.setdefault(box.identity, []).append((record.name, box))
    return dict(sorted(found.items()))
