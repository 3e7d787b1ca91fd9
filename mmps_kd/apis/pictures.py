"""Pictures and reports of what an inferencer found."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.structures import InstanceData

from mmps_kd.datasets.image_files import DamagedImageError, read_orientation, upright_boxes
from mmps_kd.gallery import Detections, split_frame
from mmps_kd.visualization import RankingPicture, draw_detections, draw_ranking
from mmps_kd.visualization.report import MAX_EMBEDDED, GalleryPeople, QueryImage, search_report

from .inputs import Source
from .results import SearchResult

FindImages = Callable[[Collection[str]], Iterable[Source]]
"""Gives the images of a gallery by their names, in any order; those that are not there are left out."""


def picture_detections(image: np.ndarray, people: Detections, orientation: int = 1) -> np.ndarray:
    """Draw an image with its people.

    Args:
        image: (H, W, 3) uint8 BGR, upright.
        people: Their boxes in pixels as stored.
        orientation: EXIF orientation of the image.

    Returns:
        (H', W', 3) uint8 RGB.
    """
    boxes = upright_boxes(people.boxes, orientation, image.shape[:2])
    found = InstanceData(bboxes=torch.from_numpy(boxes), scores=torch.from_numpy(people.scores))
    return draw_detections(to_rgb(image), found, None)


def picture_search(
    query: np.ndarray, result: SearchResult, find_images: FindImages, query_boxes: np.ndarray
) -> np.ndarray | None:
    """Draw a query and its matches.

    Args:
        query: (H, W, 3) uint8 BGR, upright; of several images as :func:`join_queries` joins them.
        result: What was found.
        find_images: Gives the images that are shown, which are read again.
        query_boxes: (N, 4) x1, y1, x2, y2 in pixels of ``query``.

    Returns:
        (H', W', 3) uint8 RGB; None if an image is not there.
    """
    shown = {match.name for match in result.matches}
    images = {source.name: to_rgb(source.read()) for source in find_images(shown)}
    if shown - images.keys():
        return None
    title = Path(result.query).name
    if result.queries:
        title += f' ({len(result.queries)} boxes of one person)'
    title += f': the {len(result.matches)} most similar of {result.num_people} people in {result.num_scenes} images'
    if result.min_similarity is not None:
        title += f', similarity at least {result.min_similarity:g}'
    if result.reranked is not None:
        title += ', re-ranked'
    ranked = [
        RankingPicture(images[m.name], _in_picture(m.box, m.name, images[m.name]), m.similarity, None, m.name)
        for m in result.matches
    ]
    return np.asarray(draw_ranking(to_rgb(query), query_boxes, title, ranked))


def report_search(
    folder: Path,
    queries: Sequence[tuple[Source, np.ndarray, np.ndarray]],
    result: SearchResult,
    find_images: FindImages,
    detections: Callable[[Sequence[str]], dict[str, Detections]],
    names: Sequence[str],
    score_thr: float,
    topk: int,
) -> str:
    """HTML report of a search, see :func:`mmps_kd.visualization.report.search_report`.

    Args:
        folder: Where the report will be.
        queries: Source, image (H, W, 3) uint8 BGR, upright, and boxes (N, 4) in pixels as stored of each.
        result: What was found.
        find_images: Gives the images that are shown, which are read again.
        detections: Gives the detections of images of the gallery, by name.
        names: The images that were searched.
        score_thr: Detections with a lower score took no part.
        topk: As asked for.
    """
    complete = result.num_people <= MAX_EMBEDDED
    if not complete:
        names = list(dict.fromkeys(match.name for match in result.matches))
    known = detections(names)
    found = [known[name][known[name].scores >= score_thr] for name in names]
    counts = [len(people) for people in found]
    image_of_box = np.repeat(np.arange(len(names)), counts)
    boxes = np.concatenate([people.boxes for people in found]) if found else np.zeros((0, 4), np.float32)
    cameras = [_camera(name) for name in names]
    people = GalleryPeople(
        names,
        image_of_box,
        boxes,
        np.concatenate([people.embeddings for people in found]) if complete else None,
        cameras if len(set(cameras)) > 1 else [''] * len(names),
        [''] * len(names),
    )
    position = {(names[i], *box): row for row, (i, box) in enumerate(zip(image_of_box, boxes.tolist(), strict=True))}

    def read(wanted: set[str]) -> Iterator[tuple[str, np.ndarray, int]]:
        for source in find_images(wanted):
            try:
                yield source.name, to_rgb(source.read()), source.orientation
            except DamagedImageError:  # it was changed meanwhile
                continue

    return search_report(
        folder,
        [QueryImage(source.name, to_rgb(image), shown, source.orientation) for source, image, shown in queries],
        people,
        [position[(match.name, *match.box)] for match in result.matches],
        [match.similarity for match in result.matches],
        read,
        num_people=result.num_people,
        num_images=result.num_scenes,
        topk=topk,
        min_similarity=result.min_similarity,
        reranked=result.reranked is not None,
    )


def _camera(name: str) -> str:
    """The video of a frame, the folder of an image: galleries have one for each camera."""
    video, frame = split_frame(name)
    return Path(name).parent.name if frame is None else Path(video).name


def _in_picture(box: Sequence[float], name: str, image: np.ndarray) -> np.ndarray:
    """A box (4,) in pixels of an image as stored, in those of its upright image."""
    return upright_boxes(np.array([box]), read_orientation(name), image.shape[:2])[0]


def join_queries(queries: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Put query images (H, W, 3) uint8 BGR side by side.

    Args:
        queries: Images, each with its boxes (N, 4).

    Returns:
        The joined image and all boxes in its pixels.
    """
    joined = np.full((max(len(image) for image, _ in queries), 0, 3), 255, dtype=np.uint8)
    moved = []
    for image, boxes in queries:
        moved.append(boxes + np.array([joined.shape[1], 0] * 2))
        below = ((0, len(joined) - len(image)), (0, 0), (0, 0))
        joined = np.concatenate([joined, np.pad(image, below, constant_values=255)], axis=1)
    return joined, np.concatenate(moved)


def to_rgb(image: np.ndarray) -> np.ndarray:
    """BGR to RGB."""
    return np.ascontiguousarray(image[..., ::-1])
