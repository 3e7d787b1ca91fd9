"""What an inferencer found, as typed objects and as JSON."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from mmps_kd.gallery import People


@dataclass(frozen=True)
class Skipped:
    """A scene that could not be read.

    Attributes:
        name: As :class:`Scene` names it.
        reason: One line.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Turned:
    """An image file that was looked at upright, though its pixels are stored otherwise; its boxes are as stored.

    Attributes:
        name: As :class:`Scene` names it.
        orientation: EXIF orientation, 2..8.
    """

    name: str
    orientation: int


def _turned_to_dict(turned: list[Turned]) -> dict:
    """What ``results.json`` says of turned images, if there are any."""
    if not turned:
        return {}
    boxes = 'in pixels as stored: the EXIF orientation of the images in "turned" is not applied'
    return dict(boxes=boxes, turned=[asdict(image) for image in turned])


class JSONResult:
    """Something with a ``to_dict`` of plain values."""

    def to_dict(self) -> dict:
        """Plain lists, numbers and text; pictures are left out."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike) -> None:
        """Write :meth:`to_dict` as JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=1) + '\n')


@dataclass(frozen=True, eq=False)
class Detected(JSONResult):
    """The people of one scene.

    Attributes:
        name: As :class:`Scene` names it.
        people: Boxes in pixels as stored, scores, embeddings.
        picture: (H', W', 3) uint8 RGB; None if it was not asked for.
    """

    name: str
    people: People
    picture: np.ndarray | None = None

    def to_dict(self) -> dict:
        """Plain lists; embeddings are left out."""
        return dict(name=self.name, boxes=self.people.boxes.tolist(), scores=self.people.scores.tolist())


@dataclass(frozen=True, eq=False)
class DetectionResult(JSONResult):
    """The people of several scenes.

    Attributes:
        scenes: In the order of the inputs.
        skipped: Those that could not be read.
        turned: Those with an EXIF orientation.
    """

    scenes: list[Detected]
    skipped: list[Skipped]
    turned: list[Turned] = field(default_factory=list)

    def to_dict(self) -> dict:
        """Plain lists; embeddings are left out."""
        return dict(
            scenes=[scene.to_dict() for scene in self.scenes],
            skipped=[asdict(scene) for scene in self.skipped],
            **_turned_to_dict(self.turned),
        )


@dataclass(frozen=True)
class Match:
    """A person of the gallery.

    Attributes:
        name: Scene, as :class:`Scene` names it.
        box: x1, y1, x2, y2 in pixels as stored.
        score: Of the detection, in 0..1.
        similarity: Dot product of the embeddings, in -1..1.
    """

    name: str
    box: tuple[float, float, float, float]
    score: float
    similarity: float


@dataclass(frozen=True, eq=False)
class SearchResult(JSONResult):
    """The people of a gallery that are most similar to a query.

    Attributes:
        query: Scene of the query.
        query_box: x1, y1, x2, y2 in its pixels.
        matches: Most similar first.
        num_scenes: Scenes searched.
        num_people: People found in them.
        skipped: Scenes that could not be read.
        picture: (H', W', 3) uint8 RGB, see :func:`draw_ranking`; None if it was not asked for.
        turned: Of the query and the matches, the images with an EXIF orientation.
    """

    query: str
    query_box: tuple[float, float, float, float]
    matches: list[Match]
    num_scenes: int
    num_people: int
    skipped: list[Skipped]
    picture: np.ndarray | None = None
    turned: list[Turned] = field(default_factory=list)

    def to_dict(self) -> dict:
        """``query``, ``gallery`` with what was skipped, and ``matches`` by rank, counted from 1."""
        return dict(
            query=dict(name=self.query, box=list(self.query_box)),
            gallery=dict(
                scenes=self.num_scenes, people=self.num_people, skipped=[asdict(scene) for scene in self.skipped]
            ),
            matches=[
                dict(rank=rank, **{**asdict(match), 'box': list(match.box)})
                for rank, match in enumerate(self.matches, start=1)
            ],
            **_turned_to_dict(self.turned),
        )
