"""The camera: where it looks and how it records light."""

from dataclasses import dataclass

import cv2
import numpy as np

from .textures import crop, grain

SMALLEST, LARGEST = 0.115, 0.33  # scale of the farthest and the nearest people: image heights a metre


@dataclass(frozen=True)
class View:
    """Perspective over flat ground: at image row y, a metre is ``(y - horizon) / camera_height`` pixels."""

    width: int
    height: int
    horizon: float  # row
    vanishing: float  # column of the vanishing point
    camera_height: float  # metres

    def row(self, scale: float) -> float:
        """Image row of the ground where a metre is ``scale`` pixels."""
        return self.horizon + scale * self.camera_height

    @property
    def tilt(self) -> float:
        """Angle in radians at which people are looked down on."""
        return min(0.35, 0.08 * self.camera_height)


@dataclass(frozen=True)
class Light:
    """Light of a place: direction to it in the image, and its colour and strength as a gain of B, G, R."""

    direction: tuple[float, float]
    gain: tuple[float, float, float]
    shadow: float  # strength of shadows cast, 0..1


def sample_view(rng: np.random.Generator, width: int, height: int) -> View:
    """Draw a view in which people of the largest scale stand near the lower edge of the image."""
    horizon = rng.uniform(0.08, 0.42)
    camera_height = (rng.uniform(0.88, 1.08) - horizon) / LARGEST
    vanishing = rng.uniform(0.2, 0.8)
    return View(width, height, horizon * height, vanishing * width, camera_height)


def sample_light(rng: np.random.Generator) -> Light:
    """Draw the light: bright or dim, bluish to yellowish, from the left or the right."""
    warmth = rng.normal(0, 0.09)
    gain = rng.uniform(0.75, 1.2) * np.array([1 - warmth, 1 + rng.normal(0, 0.02), 1 + warmth])
    sideways = rng.choice([-1, 1]) * rng.uniform(0.3, 0.9)
    return Light((float(sideways), -0.6), tuple(gain.tolist()), float(rng.uniform(0.1, 0.55)))


def expose(rng: np.random.Generator, scene: np.ndarray, light: Light) -> np.ndarray:
    """Turn scene colours (h, w, 3) float32 into the camera's uint8 picture."""
    height, width = scene.shape[:2]
    blur = rng.uniform(0.35, 0.9) * height / 300
    picture = cv2.GaussianBlur(scene, (0, 0), blur)
    grey = picture.mean(2, keepdims=True)
    picture = (grey + rng.uniform(0.7, 1.0) * (picture - grey)) * np.float32(light.gain)
    columns, rows = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    vignette = 1 - rng.uniform(0.02, 0.16) * (columns[None, :] ** 2 + rows[:, None] ** 2)
    picture *= vignette[..., None]
    picture += rng.uniform(1.5, 5) * crop(grain(), rng, width, height)
    return np.clip(picture, 0, 255).astype(np.uint8)
