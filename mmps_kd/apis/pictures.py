"""Pictures of what an inferencer found."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.structures import InstanceData

from mmps_kd.datasets.image_files import read_orientation, upright_boxes
from mmps_kd.gallery import Detections
from mmps_kd.visualization import RankingPicture, draw_detections, draw_ranking

from .inputs import Sources
from .results import SearchResult


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


def picture_search(query: np.ndarray, result: SearchResult, gallery: Sources, query_boxes: np.ndarray) -> np.ndarray:
    """Draw a query and its matches.

    Args:
        query: (H, W, 3) uint8 BGR, upright; of several images as :func:`join_queries` joins them.
        result: What was found.
        gallery: Where; the images that are shown are read again.
        query_boxes: (N, 4) x1, y1, x2, y2 in pixels of ``query``.

    Returns:
        (H', W', 3) uint8 RGB.
    """
    shown = {match.name for match in result.matches}
    images = {source.name: to_rgb(source.read()) for source in gallery if source.name in shown}
    title = Path(result.query).name
    if result.queries:
        title += f' ({len(result.queries)} boxes of one person)'
    title += f': the {len(result.matches)} most similar of {result.num_people} people in {result.num_scenes} images'
    if result.min_similarity is not None:
        title += f', similarity at least {result.min_similarity:g}'
    ranked = [
        RankingPicture(images[m.name], _in_picture(m.box, m.name, images[m.name]), m.similarity, None, m.name)
        for m in result.matches
    ]
    return np.asarray(draw_ranking(to_rgb(query), query_boxes, title, ranked))


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
