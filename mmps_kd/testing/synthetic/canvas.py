"""Shapes on a transparent canvas, and the noise textures of surfaces, cloth and sensor."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

Colour = tuple[float, float, float]  # B, G, R; 0..255
# A colour, or a function of the pixel columns (w,) and rows (h,) that gives (h, w, 3).
Paint = Colour | Callable[[np.ndarray, np.ndarray], np.ndarray]
TEXTURE_SIZE = 512
_SUBPIXEL_BITS = 4
_EDGE_SHADE = 0.55  # how much darker a shape is at its edge
_LIGHT_SHADE = 0.55


class Sprite(NamedTuple):
    """A painted object: premultiplied colour (h, w, 3) 0..255, alpha (h, w) 0..1, image position of its corner."""

    colour: np.ndarray
    alpha: np.ndarray
    x: int
    y: int


class Canvas:
    """Transparent canvas of (height, width) pixels, lit from the image direction ``light`` (2,)."""

    def __init__(self, width: int, height: int, light: tuple[float, float]) -> None:
        self.colour = np.zeros((height, width, 3), np.float32)
        self.alpha = np.zeros((height, width), np.float32)
        self.light = light

    def fill(self, outline: np.ndarray, paint: Paint, roundness: float) -> None:
        """Paint a polygon (n, 2) in pixels; ``roundness`` is the width in pixels of its curved border."""
        left, top = np.maximum(np.floor(outline.min(0)).astype(int) - 1, 0)
        right, bottom = np.minimum(np.ceil(outline.max(0)).astype(int) + 2, self.alpha.shape[::-1])
        if left >= right or top >= bottom:
            return
        mask = np.zeros((bottom - top, right - left), np.float32)
        points = np.round((outline - (left, top)) * 2**_SUBPIXEL_BITS).astype(np.int32)
        cv2.fillPoly(mask, [points], 1.0, cv2.LINE_AA, _SUBPIXEL_BITS)
        colour = paint(np.arange(left, right), np.arange(top, bottom)) if callable(paint) else np.float32(paint)
        # Shading: the blurred mask acts as a height map, whose slope is compared with the direction of the light.
        sigma = max(roundness * 0.6, 0.6)
        soft = cv2.GaussianBlur(mask, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
        across = cv2.Sobel(soft, cv2.CV_32F, 1, 0, scale=sigma / 4)
        down = cv2.Sobel(soft, cv2.CV_32F, 0, 1, scale=sigma / 4)
        facing_light = -(across * self.light[0] + down * self.light[1])
        shading = np.clip(1 - _EDGE_SHADE * (1 - soft) + _LIGHT_SHADE * facing_light, 0.25, 1.5)
        area = np.s_[top:bottom, left:right]
        self.colour[area] += (colour * shading[..., None] - self.colour[area]) * mask[..., None]
        self.alpha[area] += (1 - self.alpha[area]) * mask

    def shrink(self, factor: int, x: float, y: float) -> Sprite:
        """Average ``factor`` x ``factor`` pixels into one; (x, y) is the image position of the canvas' corner."""
        size = self.alpha.shape[1] // factor, self.alpha.shape[0] // factor
        colour = cv2.resize(self.colour, size, interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(self.alpha, size, interpolation=cv2.INTER_AREA)
        return Sprite(colour, alpha, round(x), round(y))


def capsule(start: np.ndarray, end: np.ndarray, start_radius: float, end_radius: float) -> np.ndarray:
    """Outline (14, 2) of a limb: two half circles joined by straight sides."""
    angle = np.arctan2(*(end - start)[1::-1])
    turn = np.linspace(-np.pi / 2, np.pi / 2, 7)
    near, far = angle + np.pi + turn, angle + turn
    first = start + start_radius * np.stack([np.cos(near), np.sin(near)], 1)
    return np.concatenate([first, end + end_radius * np.stack([np.cos(far), np.sin(far)], 1)])


def ellipse(centre: np.ndarray, radii: tuple[float, float], start: float = 0, end: float = 2 * np.pi) -> np.ndarray:
    """Outline (20, 2) of an ellipse or of its segment between two angles (clockwise from the right, in radians)."""
    angles = np.linspace(start, end, 20)
    return centre + np.array(radii) * np.stack([np.cos(angles), np.sin(angles)], 1)


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """Outline (4, 2) of an upright rectangle."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)


def shade(colour: Colour, factor: float) -> Colour:
    """A darker (factor below 1) or lighter colour."""
    return tuple(channel * factor for channel in colour)


@lru_cache
def cloudy() -> np.ndarray:
    """(512, 512) float32 of smooth multi-scale noise, mean 0 and standard deviation 1, that tiles without seams."""
    rng = np.random.default_rng(0)
    noise = np.zeros((TEXTURE_SIZE, TEXTURE_SIZE), np.float32)
    for cells in (8, 16, 32, 64, 128):
        coarse = np.pad(rng.standard_normal((cells, cells)).astype(np.float32), 2, mode='wrap')
        margin = 2 * TEXTURE_SIZE // cells
        fine = cv2.resize(coarse, (TEXTURE_SIZE + 2 * margin,) * 2, interpolation=cv2.INTER_CUBIC)
        noise += fine[margin:-margin, margin:-margin] * (8 / cells) ** 0.6
    return (noise - noise.mean()) / noise.std()


@lru_cache
def grain() -> np.ndarray:
    """(512, 512, 3) float32 of independent noise, mean 0 and standard deviation 1."""
    return np.random.default_rng(1).standard_normal((TEXTURE_SIZE, TEXTURE_SIZE, 3)).astype(np.float32)


def crop(noise: np.ndarray, rng: np.random.Generator, width: int, height: int, zoom: float = 1.0) -> np.ndarray:
    """A random crop (height, width, ...) of ``noise``, enlarged by ``zoom``."""
    x, y = rng.integers(0, TEXTURE_SIZE, 2)
    columns = (x + (np.arange(width) / zoom).astype(int)) % TEXTURE_SIZE
    rows = (y + (np.arange(height) / zoom).astype(int)) % TEXTURE_SIZE
    return noise[np.ix_(rows, columns)]
