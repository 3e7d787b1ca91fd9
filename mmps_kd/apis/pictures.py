"""Pictures of what an inferencer found."""

from pathlib import Path

import numpy as np
import torch
from mmengine.structures import InstanceData

from mmps_kd.gallery import People
from mmps_kd.visualization import RankingPicture, draw_detections, draw_ranking

from .inputs import Scenes
from .results import SearchResult


def picture_detections(image: np.ndarray, people: People) -> np.ndarray:
    """Draw a scene (H, W, 3) uint8 BGR with its people: (H', W', 3) uint8 RGB."""
    found = InstanceData(bboxes=torch.from_numpy(people.boxes), scores=torch.from_numpy(people.scores))
    return draw_detections(to_rgb(image), found, None)


def picture_search(query: np.ndarray, result: SearchResult, gallery: Scenes) -> np.ndarray:
    """Draw a query and its matches.

    Args:
        query: (H, W, 3) uint8 BGR.
        result: What was found.
        gallery: Where; the scenes that are shown are read again.

    Returns:
        (H', W', 3) uint8 RGB.
    """
    shown = {match.name for match in result.matches}
    images = {scene.name: to_rgb(scene.read()) for scene in gallery if scene.name in shown}
    title = f'{Path(result.query).name}: the {len(result.matches)} most similar of {result.num_people} people'
    title += f' in {result.num_scenes} scenes'
    ranked = [RankingPicture(images[m.name], np.array(m.box), m.similarity, None, m.name) for m in result.matches]
    return np.asarray(draw_ranking(to_rgb(query), np.array(result.query_box), title, ranked))


def to_rgb(image: np.ndarray) -> np.ndarray:
    """BGR to RGB."""
    return np.ascontiguousarray(image[..., ::-1])
