"""A transparent canvas on which shapes are painted with round shading."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

# A colour (B, G, R; 0..255), or a function of the pixel columns (w,) and rows (h,) that gives (h, w, 3).
Paint = tuple[float, float, float] | Callable[[np.ndarray, np.ndarray], np.ndarray]
_SUBPIXEL_BITS = 4
_EDGE_SHADE = 0.55  # how much darker a shape is where it turns away
_LIGHT_SHADE = 0.55


@dataclass(frozen=True)
class Sprite:
    """A painted object: premultiplied colour (h, w, 3) 0..255, coverage (h, w) 0..1, place of its corner in pixels."""

    colour: np.ndarray
    alpha: np.ndarray
    x: int
    y: int

    def trimmed(self) -> 'Sprite':
        """The sprite without its empty margins."""
        rows, columns = np.flatnonzero((self.alpha > 0.5).any(1)), np.flatnonzero((self.alpha > 0.5).any(0))
        area = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return Sprite(self.colour[area], self.alpha[area], self.x + int(columns[0]), self.y + int(rows[0]))


class Canvas:
    """Transparent picture of (height, width) pixels, lit from the image direction ``light`` (2,)."""

    def __init__(self, width: int, height: int, light: tuple[float, float]) -> None:
        self.colour = np.zeros((height, width, 3), np.float32)
        self.alpha = np.zeros((height, width), np.float32)
        self.light = light

    def fill(self, outline: np.ndarray, paint: Paint, roundness: float) -> None:
        """Paint a polygon (n, 2) in pixels; ``roundness`` is how far from its edge, in pixels, it stops curving."""
        left, top = np.maximum(np.floor(outline.min(0)).astype(int) - 1, 0)
        right, bottom = np.minimum(np.ceil(outline.max(0)).astype(int) + 2, self.alpha.shape[::-1])
        if left >= right or top >= bottom:
            return
        mask = np.zeros((bottom - top, right - left), np.float32)
        points = np.round((outline - (left, top)) * 2**_SUBPIXEL_BITS).astype(np.int32)
        cv2.fillPoly(mask, [points], 1.0, cv2.LINE_AA, _SUBPIXEL_BITS)
        colour = paint(np.arange(left, right), np.arange(top, bottom)) if callable(paint) else np.float32(paint)
        shaded = colour * self._shade(mask, roundness)[..., None]
        area = np.s_[top:bottom, left:right]
        self.colour[area] += (shaded - self.colour[area]) * mask[..., None]
        self.alpha[area] += (1 - self.alpha[area]) * mask

    def _shade(self, mask: np.ndarray, roundness: float) -> np.ndarray:
        sigma = max(roundness * 0.6, 0.6)
        soft = cv2.GaussianBlur(mask, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
        across = cv2.Sobel(soft, cv2.CV_32F, 1, 0, scale=sigma / 4)
        down = cv2.Sobel(soft, cv2.CV_32F, 0, 1, scale=sigma / 4)
        facing_light = -(across * self.light[0] + down * self.light[1])
        return np.clip(1 - _EDGE_SHADE * (1 - soft) + _LIGHT_SHADE * facing_light, 0.25, 1.5)

    def shrink(self, factor: int, x: float, y: float) -> Sprite:
        """Average ``factor`` x ``factor`` pixels into one; (x, y) is where the canvas' corner lies in the image."""
        size = self.alpha.shape[1] // factor, self.alpha.shape[0] // factor
        colour = cv2.resize(self.colour, size, interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(self.alpha, size, interpolation=cv2.INTER_AREA)
        return Sprite(colour, alpha, round(x), round(y))


def capsule(start: np.ndarray, end: np.ndarray, start_radius: float, end_radius: float) -> np.ndarray:
    """Outline (n, 2) of a limb: two half circles joined by straight sides."""
    angle = np.arctan2(*(end - start)[1::-1])
    turn = np.linspace(-np.pi / 2, np.pi / 2, 7)
    near, far = angle + np.pi + turn, angle + turn
    return np.concatenate(
        [
            start + start_radius * np.stack([np.cos(near), np.sin(near)], 1),
            end + end_radius * np.stack([np.cos(far), np.sin(far)], 1),
        ]
    )


def ellipse(centre: np.ndarray, radii: tuple[float, float], start: float = 0, end: float = 2 * np.pi) -> np.ndarray:
    """Outline (n, 2) of an ellipse or of its segment between two angles (clockwise from the right, in radians)."""
    angles = np.linspace(start, end, 20)
    return centre + np.array(radii) * np.stack([np.cos(angles), np.sin(angles)], 1)


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """Outline (4, 2) of an upright rectangle."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)
