"""Scenes read, what cannot be read set aside."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice

import numpy as np

from mmps_kd.datasets.image_files import DamagedImageError
from mmps_kd.errors import UserError

from .inputs import Input, Scene, Scenes
from .results import Skipped


def read_one(image: Input) -> tuple[Scene, np.ndarray]:
    """The one scene that an input stands for, and its pixels.

    Raises:
        UserError: If it stands for several, or cannot be read.
    """
    scenes = Scenes(image)
    if len(scenes) > 1:
        raise UserError(f'{image} stands for {len(scenes)} images: give one, of a video a frame such as cam1.mp4#250')
    (scene,) = scenes
    return scene, scene.read()


def read_scenes(scenes: Iterable[Scene], skipped: list[Skipped]) -> Iterator[tuple[Scene, np.ndarray]]:
    """Read scenes, (H, W, 3) uint8 BGR each; those that cannot be read are added to ``skipped``."""
    for scene in scenes:
        try:
            image = scene.read()
        except DamagedImageError as error:
            skipped.append(Skipped(scene.name, str(error)))
        else:
            yield scene, image


def batches(scenes: Iterable[tuple[Scene, np.ndarray]], size: int) -> Iterator[list[tuple[Scene, np.ndarray]]]:
    """Join up to ``size`` scenes of one shape that follow each other."""
    for _, alike in groupby(scenes, lambda scene: scene[1].shape):
        while batch := list(islice(alike, size)):
            yield batch


def require_some(found: Sequence, skipped: Sequence[Skipped]) -> None:
    """Refuse to go on where nothing could be read.

    Raises:
        UserError: If nothing was found.
    """
    if not found:
        raise UserError(f'none of the {len(skipped)} images can be read; the first: {skipped[0].reason}')
