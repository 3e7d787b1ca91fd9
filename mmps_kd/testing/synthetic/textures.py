"""Noise that surfaces, clothes and sensors are made of."""

from functools import lru_cache

import cv2
import numpy as np

SIDE = 512


@lru_cache
def cloudy() -> np.ndarray:
    """(512, 512) float32 of smooth multi-scale noise with standard deviation 1, without seams when repeated."""
    rng = np.random.default_rng(0)
    noise = np.zeros((SIDE, SIDE), np.float32)
    for cells in (8, 16, 32, 64, 128):
        coarse = np.pad(rng.standard_normal((cells, cells)).astype(np.float32), 2, mode='wrap')
        margin = 2 * SIDE // cells
        fine = cv2.resize(coarse, (SIDE + 2 * margin,) * 2, interpolation=cv2.INTER_CUBIC)
        noise += fine[margin:-margin, margin:-margin] * (8 / cells) ** 0.6
    return (noise - noise.mean()) / noise.std()


@lru_cache
def grain() -> np.ndarray:
    """(512, 512, 3) float32 of independent noise with standard deviation 1."""
    return np.random.default_rng(1).standard_normal((SIDE, SIDE, 3)).astype(np.float32)


def crop(noise: np.ndarray, rng: np.random.Generator, width: int, height: int, zoom: float = 1.0) -> np.ndarray:
    """A random piece of ``noise``, ``zoom`` times enlarged, to (height, width, ...)."""
    x, y = rng.integers(0, SIDE, 2)
    columns = (x + (np.arange(width) / zoom).astype(int)) % SIDE
    rows = (y + (np.arange(height) / zoom).astype(int)) % SIDE
    return noise[np.ix_(rows, columns)]
