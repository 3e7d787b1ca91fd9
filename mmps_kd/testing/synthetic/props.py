"""Things that stand about: trees, lamp posts, cars, bins, hedges, pillars."""

from collections.abc import Callable

import numpy as np

from .canvas import Canvas, Sprite, box, capsule, ellipse
from .textures import cloudy, crop

_CAR_COLOURS = ((45, 42, 40), (215, 215, 215), (150, 148, 145), (50, 45, 150), (130, 80, 40), (60, 90, 60))


def paint_prop(
    kind: str, rng: np.random.Generator, scale: float, foot: tuple[float, float], light: tuple[float, float]
) -> Sprite:
    """Paint a thing that stands at an image point; ``scale`` is pixels a metre there."""
    half_width, height, painter = PROPS[kind]
    width, rows = int(2 * half_width * scale) + 2, int((height + 0.3) * scale) + 2
    canvas = Canvas(width, rows, light)
    painter(rng, canvas, scale, np.array([width / 2, height * scale]))
    return canvas.shrink(1, foot[0] - width / 2, foot[1] - height * scale)


def _tree(rng: np.random.Generator, canvas: Canvas, scale: float, foot: np.ndarray) -> None:
    crown = foot - (0, 3.3 * scale)
    canvas.fill(capsule(foot, crown, 0.14 * scale, 0.09 * scale), (55, 72, 88), 0.1 * scale)
    green = np.array((45, 95, 75)) * rng.uniform(0.7, 1.3) + rng.uniform(-12, 12, 3)
    height, width = canvas.alpha.shape
    leaves = crop(cloudy(), rng, width, height, zoom=max(0.3, scale / 90))

    def foliage(columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return green * (1 + 0.30 * leaves[np.ix_(rows, columns)])[..., None]

    for _ in range(9):
        centre = crown + rng.normal(0, 0.55, 2) * scale
        outline = ellipse(centre, (rng.uniform(0.5, 0.9) * scale, rng.uniform(0.4, 0.8) * scale))
        ragged = outline + rng.normal(0, 0.07 * scale, outline.shape)
        canvas.fill(ragged, foliage, 0.35 * scale)


def _lamp(rng: np.random.Generator, canvas: Canvas, scale: float, foot: np.ndarray) -> None:
    tone = float(rng.uniform(45, 120))
    top = foot - (0, 4.3 * scale)
    canvas.fill(capsule(foot, foot - (0, 0.7 * scale), 0.10 * scale, 0.08 * scale), (tone,) * 3, 0.06 * scale)
    canvas.fill(capsule(foot, top, 0.055 * scale, 0.045 * scale), (tone,) * 3, 0.04 * scale)
    canvas.fill(ellipse(top, (0.24 * scale, 0.13 * scale)), (225, 232, 235), 0.1 * scale)


def _bollard(rng: np.random.Generator, canvas: Canvas, scale: float, foot: np.ndarray) -> None:
    tone = float(rng.uniform(50, 150))
    canvas.fill(capsule(foot, foot - (0, 0.85 * scale), 0.09 * scale, 0.09 * scale), (tone,) * 3, 0.07 * scale)
    canvas.fill(
        box(*(foot - (0.09 * scale, 0.8 * scale)), *(foot + (0.09 * scale, -0.68 * scale))),
        (60, 170, 220),
        0.07 * scale,
    )


def _bin(rng: np.random.Generator, canvas: Canvas, scale: float, foot: np.ndarray) -> None:
    colour = ((70, 95, 55), (60, 60, 62), (120, 80, 45))[rng.integers(3)]
    body = np.array([(-0.26, -0.95), (0.26, -0.95), (0.21, 0), (-0.21, 0)]) * scale + foot
    canvas.fill(body, colour, 0.2 * scale)
    canvas.fill(
        box(*(foot - (0.29 * scale, 1.03 * scale)), *(foot + (0.29 * scale, -0.93 * scale))), (48, 48, 50), 0.05 * scale
    )


def _planter(rng: np.random.Generator, canvas: Canvas, scale: float, foot: np.ndarray) -> None:
    canvas.fill(box(*(foot - (0.75 * scale, 0.42 * scale)), *(foot + (0.75 * scale, 0))), (125, 132, 140), 0.12 * scale)
    green = np.array((50, 110, 80)) * rng.uniform(0.7, 1.2)
    for x in np.linspace(-0.62, 0.62, 7):
        centre = foot + ((x + rng.normal(0, 0.04)) * scale, (-0.58 + rng.normal(0, 0.06)) * scale)
        leaf = ellipse(centre, (0.17 * scale, 0.24 * scale))
        canvas.fill(leaf + rng.normal(0, 0.025 * scale, leaf.shape), tuple(green * rng.uniform(0.8, 1.2)), 0.12 * scale)


def _pillar(rng: np.random.Generator, canvas: Canvas, scale: float, foot: np.ndarray) -> None:
    tone = float(rng.uniform(120, 215))
    canvas.fill(
        box(*(foot - (0.24 * scale, 4.0 * scale)), *(foot + (0.24 * scale, 0))), (tone * 0.96, tone, tone), 0.22 * scale
    )
    canvas.fill(box(*(foot - (0.30 * scale, 0.2 * scale)), *(foot + (0.30 * scale, 0))), (tone * 0.7,) * 3, 0.1 * scale)


def _stand(rng: np.random.Generator, canvas: Canvas, scale: float, foot: np.ndarray) -> None:
    """A poster on two legs."""
    for x in (-0.38, 0.38):
        canvas.fill(
            capsule(foot + (x * scale, 0), foot + (x * scale, -0.6 * scale), 0.04 * scale, 0.04 * scale),
            (70, 70, 72),
            2,
        )
    canvas.fill(
        box(*(foot - (0.5 * scale, 1.75 * scale)), *(foot + (0.5 * scale, -0.4 * scale))), (210, 212, 214), 0.04 * scale
    )
    for _ in range(5):
        x, y = rng.uniform(-0.42, 0.2), rng.uniform(-1.65, -0.8)
        colour = tuple(rng.uniform(40, 220, 3))
        patch = box(x, y, x + rng.uniform(0.1, 0.25), y + rng.uniform(0.1, 0.35)) * scale + foot
        canvas.fill(patch, colour, 1)


def _car(rng: np.random.Generator, canvas: Canvas, scale: float, foot: np.ndarray) -> None:
    colour = np.array(_CAR_COLOURS[rng.integers(len(_CAR_COLOURS))], float)
    mirror = np.array([rng.choice([-1, 1]), 1])

    def placed(points: list[tuple[float, float]]) -> np.ndarray:
        return np.array(points) * mirror * scale + foot

    cabin = placed([(-1.35, -0.85), (-0.85, -1.42), (0.45, -1.45), (1.15, -0.88)])
    canvas.fill(cabin, tuple(colour * 0.9), 0.3 * scale)
    for window in (
        [(-1.12, -0.88), (-0.76, -1.33), (-0.25, -1.36), (-0.25, -0.88)],
        [(-0.17, -0.88), (-0.17, -1.36), (0.4, -1.36), (0.92, -0.88)],
    ):
        canvas.fill(placed(window), (88, 80, 72), 0.15 * scale)
    body = [
        (-2.05, -0.35),
        (-2.0, -0.75),
        (-1.35, -0.92),
        (1.2, -0.9),
        (1.95, -0.7),
        (2.1, -0.32),
        (1.9, -0.22),
        (-1.95, -0.22),
    ]
    canvas.fill(placed(body), tuple(colour), 0.35 * scale)
    canvas.fill(placed([(1.88, -0.66), (2.04, -0.6), (2.04, -0.48), (1.85, -0.5)]), (210, 225, 230), 1)
    canvas.fill(placed([(-2.02, -0.7), (-1.9, -0.7), (-1.9, -0.52), (-2.02, -0.52)]), (45, 40, 165), 1)
    for x in (-1.3, 1.3):
        wheel = foot + (x * mirror[0] * scale, -0.30 * scale)
        canvas.fill(ellipse(wheel, (0.33 * scale, 0.33 * scale)), (32, 32, 33), 0.1 * scale)
        canvas.fill(ellipse(wheel, (0.19 * scale, 0.19 * scale)), (150, 150, 152), 0.1 * scale)


def _bicycle(rng: np.random.Generator, canvas: Canvas, scale: float, foot: np.ndarray) -> None:
    tone = float(rng.uniform(30, 90))
    wheels = [foot + (x * scale, -0.34 * scale) for x in (-0.52, 0.52)]
    for wheel in wheels:
        ring = ellipse(wheel, (0.34 * scale, 0.34 * scale))
        inner = ellipse(wheel, (0.29 * scale, 0.29 * scale))[::-1]
        canvas.fill(np.concatenate([ring, inner]), (45, 45, 46), 1)
    colour = tuple(rng.uniform(30, 200, 3))
    saddle, crank, bar = (
        foot + (-0.2 * scale, -0.85 * scale),
        foot + (-0.05 * scale, -0.34 * scale),
        foot + (0.35 * scale, -0.9 * scale),
    )
    for start, end in (
        (saddle, crank),
        (saddle, bar),
        (crank, bar),
        (wheels[0], saddle),
        (wheels[0], crank),
        (wheels[1], bar),
    ):
        canvas.fill(capsule(start, end, 0.022 * scale, 0.022 * scale), colour, 1)
    canvas.fill(
        capsule(saddle - (0.1 * scale, 0), saddle + (0.08 * scale, 0), 0.04 * scale, 0.03 * scale), (tone,) * 3, 2
    )


Painter = Callable[[np.random.Generator, Canvas, float, np.ndarray], None]
PROPS: dict[str, tuple[float, float, Painter]] = {  # half width and height in metres
    'tree': (2.2, 5.6, _tree),
    'lamp': (0.3, 4.6, _lamp),
    'bollard': (0.15, 1.0, _bollard),
    'bin': (0.35, 1.1, _bin),
    'planter': (0.95, 1.0, _planter),
    'pillar': (0.35, 4.0, _pillar),
    'stand': (0.55, 1.8, _stand),
    'car': (2.2, 1.5, _car),
    'bicycle': (0.9, 1.1, _bicycle),
}
