"""Who is seen in which image, and the random numbers of every part."""

from dataclasses import dataclass

import numpy as np

from .sizes import DatasetSize, SplitSize

# First key of every random stream, so that no two parts ever share one.
PLAN, IMAGE, IDENTITY, SITE, ANNOTATION = range(5)


@dataclass(frozen=True)
class ImagePlan:
    """One image to be rendered: its split, file name and the identities (0.. over both splits) seen in it."""

    index: int
    split: str
    name: str
    identities: tuple[int, ...]


@dataclass(frozen=True)
class PersonBox:
    """A person as annotated: identity (-1: unlabelled), x y w h in whole pixels, visible fraction 0..1."""

    identity: int
    xywh: tuple[int, int, int, int]
    visible: float


@dataclass(frozen=True)
class ImageRecord:
    """A rendered image and its annotated people."""

    name: str
    split: str
    boxes: tuple[PersonBox, ...]


def stream(seed: int, part: int, index: int = 0) -> np.random.Generator:
    """Generator of one part (image, identity, ...), the same in whichever process and order it is made."""
    return np.random.default_rng(np.random.SeedSequence([seed, part, index]))


def deal(rng: np.random.Generator, split: SplitSize, first_identity: int) -> list[tuple[int, ...]]:
    """Deal the identities of a split out to its images, as cards: evenly, and never twice to one image."""
    people: list[list[int]] = [[] for _ in range(split.images)]
    deck: list[int] = []
    for identity in rng.permutation(split.identities):
        count = rng.integers(*split.appearances, endpoint=True)
        if len(deck) < count:
            deck = rng.permutation(split.images).tolist()
        for _ in range(count):
            people[deck.pop()].append(first_identity + int(identity))
    return [tuple(identities) for identities in people]


def plan_images(size: DatasetSize, names: list[str], seed: int) -> list[ImagePlan]:
    """Plan every image: the training images first, then the test images; ``names`` in that order."""
    rng = stream(seed, PLAN)
    people = deal(rng, size.train, 0) + deal(rng, size.test, size.train.identities)
    splits = ['train'] * size.train.images + ['test'] * size.test.images
    plans = zip(splits, names, people, strict=True)
    return [ImagePlan(index, *plan) for index, plan in enumerate(plans)]


def scenes_by_identity(records: list[ImageRecord], split: str) -> dict[int, list[tuple[str, PersonBox]]]:
    """Images and boxes of every labelled identity of a split, identities ascending."""
    scenes: dict[int, list[tuple[str, PersonBox]]] = {}
    for record in records:
        for box in record.boxes:
            if record.split == split and box.identity >= 0:
                scenes.setdefault(box.identity, []).append((record.name, box))
    return dict(sorted(scenes.items()))
