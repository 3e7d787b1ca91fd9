"""What an inferencer found, as typed objects and as JSON."""

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from mmps_kd.errors import UserError
from mmps_kd.gallery import Detections


@dataclass(frozen=True)
class Skipped:
    """An image that could not be read.

    Attributes:
        name: As :class:`Source` names it.
        reason: One line.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Turned:
    """An image file that was looked at upright, though its pixels are stored otherwise; its boxes are as stored.

    Attributes:
        name: As :class:`Source` names it.
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
    """The people of one image.

    Attributes:
        name: As :class:`Source` names it.
        people: Boxes in pixels as stored, scores, embeddings.
        picture: (H', W', 3) uint8 RGB; None if it was not asked for.
    """

    name: str
    people: Detections
    picture: np.ndarray | None = None

    def to_dict(self) -> dict:
        """Plain lists; embeddings are left out."""
        return dict(name=self.name, boxes=self.people.boxes.tolist(), scores=self.people.scores.tolist())


@dataclass(frozen=True, eq=False)
class DetectionResult(JSONResult):
    """The people of several images.

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
        name: Image, as :class:`Source` names it.
        box: x1, y1, x2, y2 in pixels as stored.
        score: Of the detection, in 0..1.
        similarity: Dot product of the embeddings, in -1..1.
        camera: Name of the camera, in a gallery that was filled with cameras; otherwise empty.
        time: Seconds, see :class:`mmps_kd.gallery.GalleryImage`; None if the gallery does not say.
    """

    name: str
    box: tuple[float, float, float, float]
    score: float
    similarity: float
    camera: str = ''
    time: float | None = None

    def to_dict(self) -> dict:
        """Plain values; camera and time only if they are known."""
        known = {key: value for key, value in asdict(self).items() if value not in ('', None)}
        return {**known, 'box': list(self.box)}


@dataclass(frozen=True)
class QueryBox:
    """A box that shows the person of a query.

    Attributes:
        name: Image, as :class:`Source` names it.
        box: x1, y1, x2, y2 in its pixels.
    """

    name: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class SearchResult(JSONResult):
    """The people of a gallery that are most similar to a query.

    Attributes:
        query: Image of the query, of several boxes that of the first.
        query_box: x1, y1, x2, y2 in its pixels.
        matches: Most similar first, unless they were re-ranked; empty if nobody is similar enough.
        num_scenes: Images searched.
        num_people: Detections found in them.
        skipped: Images that could not be read.
        picture: (H', W', 3) uint8 RGB, see :func:`draw_ranking`; None if it was not asked for, or the images
            of a gallery are not there.
        queries: All boxes that show the person, if there are several; otherwise empty.
        min_similarity: Least similarity of a match; None if there was no limit.
        turned: Of the query and the matches, the images with an EXIF orientation.
        reranked: So many of the most similar people were re-ranked by their k-reciprocal neighbours; None: none were.
    """

    query: str
    query_box: tuple[float, float, float, float]
    matches: list[Match]
    num_scenes: int
    num_people: int
    skipped: list[Skipped]
    picture: np.ndarray | None = None
    queries: Sequence[QueryBox] = ()
    min_similarity: float | None = None
    turned: list[Turned] = field(default_factory=list)
    reranked: int | None = None

    def to_dict(self) -> dict:
        """``query``, ``gallery`` with what was skipped, and ``matches`` by rank, counted from 1.

        ``queries``, ``min_similarity`` and ``reranked`` are there if they were given.
        """
        queries = [dict(name=query.name, box=list(query.box)) for query in self.queries]
        return dict(
            query=dict(name=self.query, box=list(self.query_box)),
            **(dict(queries=queries) if queries else {}),
            **({} if self.min_similarity is None else dict(min_similarity=self.min_similarity)),
            **({} if self.reranked is None else dict(reranked=self.reranked)),
            gallery=dict(
                scenes=self.num_scenes, people=self.num_people, skipped=[asdict(scene) for scene in self.skipped]
            ),
            matches=[dict(rank=rank, **match.to_dict()) for rank, match in enumerate(self.matches, start=1)],
            **_turned_to_dict(self.turned),
        )

    def save_csv(self, path: str | os.PathLike) -> None:
        """Write a line for each match; a camera or time that is not known is empty."""
        with open(path, 'w', newline='') as file:
            writer = csv.writer(file)
            writer.writerow(['rank', 'name', 'camera', 'time', 'x1', 'y1', 'x2', 'y2', 'score', 'similarity'])
            for rank, match in enumerate(self.matches, start=1):
                time = '' if match.time is None else match.time
                writer.writerow([rank, match.name, match.camera, time, *match.box, match.score, match.similarity])


def read_match(path: str | os.PathLike, rank: int) -> Match:
    """A match of an earlier search, whose image and box can be the next query.

    Args:
        path: ``results.json`` of a search.
        rank: Counted from 1.

    Raises:
        UserError: If the file cannot be read, is of no search, or does not have that match.
    """
    try:
        matches = [
            Match(match['name'], tuple(map(float, match['box'])), match['score'], match['similarity'])
            for match in json.loads(Path(path).read_text())['matches']
        ]
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror}') from None
    except (KeyError, TypeError, ValueError):
        raise UserError(f'{path} is not the results.json of a search') from None
    if not 1 <= rank <= len(matches):
        raise UserError(f'{path} has {len(matches)} matches, none of rank {rank}; ranks are counted from 1')
    return matches[rank - 1]
