"""Props, the objects that may hide persons: trees, lamp posts, cars, bins, planters, pillars, bicycles."""

import numpy as np

from .canvas import Canvas, Sprite, box, capsule, cloudy, crop, ellipse

_CAR_COLOURS = ((45, 42, 40), (215, 215, 215), (150, 148, 145), (50, 45, 150), (130, 80, 40), (60, 90, 60))


class PropCanvas(Canvas):
    """A canvas with a point ``foot`` on the ground; ``scale`` is pixels a metre there."""

    def __init__(self, half_width: float, height: float, scale: float, light: tuple[float, float]) -> None:
        width = int(2 * half_width * scale) + 2
        super().__init__(width, int((height + 0.3) * scale) + 2, light)
        self.scale = scale
        self.foot = np.array([width / 2, height * scale])

    def at(self, *points: tuple[float, float]) -> np.ndarray:
        """Points (n, 2) in pixels, given in metres to the right of and below the foot."""
        return np.array(points) * self.scale + self.foot

    def box(self, left: float, top: float, right: float, bottom: float) -> np.ndarray:
        """Outline (4, 2) in pixels of a rectangle in metres."""
        return self.at(*box(left, top, right, bottom))


def paint_prop(
    kind: str, rng: np.random.Generator, scale: float, foot: tuple[float, float], light: tuple[float, float]
) -> Sprite:
    """Paint a prop that stands at an image point; ``scale`` is pixels a metre there."""
    half_width, height, painter = PROPS[kind]
    canvas = PropCanvas(half_width, height, scale, light)
    painter(rng, canvas, scale)
    return canvas.shrink(1, *np.subtract(foot, canvas.foot))


def _tree(rng: np.random.Generator, canvas: PropCanvas, scale: float) -> None:
    foot, crown = canvas.at((0, 0), (0, -3.3))
    canvas.fill(capsule(foot, crown, 0.14 * scale, 0.09 * scale), (55, 72, 88), 0.1 * scale)
    green = np.array((45, 95, 75)) * rng.uniform(0.7, 1.3) + rng.uniform(-12, 12, 3)
    height, width = canvas.alpha.shape
    leaves = crop(cloudy(), rng, width, height, zoom=max(0.3, scale / 90))

    def foliage(columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return green * (1 + 0.30 * leaves[np.ix_(rows, columns)])[..., None]

    for _ in range(9):
        centre = crown + rng.normal(0, 0.55, 2) * scale
        outline = ellipse(centre, (rng.uniform(0.5, 0.9) * scale, rng.uniform(0.4, 0.8) * scale))
        canvas.fill(outline + rng.normal(0, 0.07 * scale, outline.shape), foliage, 0.35 * scale)


def _lamp(rng: np.random.Generator, canvas: PropCanvas, scale: float) -> None:
    tone = (float(rng.uniform(45, 120)),) * 3
    foot, base, top = canvas.at((0, 0), (0, -0.7), (0, -4.3))
    canvas.fill(capsule(foot, base, 0.10 * scale, 0.08 * scale), tone, 0.06 * scale)
    canvas.fill(capsule(foot, top, 0.055 * scale, 0.045 * scale), tone, 0.04 * scale)
    canvas.fill(ellipse(top, (0.24 * scale, 0.13 * scale)), (225, 232, 235), 0.1 * scale)


def _bollard(rng: np.random.Generator, canvas: PropCanvas, scale: float) -> None:
    post = capsule(*canvas.at((0, 0), (0, -0.85)), 0.09 * scale, 0.09 * scale)
    canvas.fill(post, (float(rng.uniform(50, 150)),) * 3, 0.07 * scale)
    canvas.fill(canvas.box(-0.09, -0.8, 0.09, -0.68), (60, 170, 220), 0.07 * scale)


def _bin(rng: np.random.Generator, canvas: PropCanvas, scale: float) -> None:
    colour = ((70, 95, 55), (60, 60, 62), (120, 80, 45))[rng.integers(3)]
    canvas.fill(canvas.at((-0.26, -0.95), (0.26, -0.95), (0.21, 0), (-0.21, 0)), colour, 0.2 * scale)
    canvas.fill(canvas.box(-0.29, -1.03, 0.29, -0.93), (48, 48, 50), 0.05 * scale)


def _planter(rng: np.random.Generator, canvas: PropCanvas, scale: float) -> None:
    canvas.fill(canvas.box(-0.75, -0.42, 0.75, 0), (125, 132, 140), 0.12 * scale)
    green = np.array((50, 110, 80)) * rng.uniform(0.7, 1.2)
    for x in np.linspace(-0.62, 0.62, 7):
        (centre,) = canvas.at((x + rng.normal(0, 0.04), -0.58 + rng.normal(0, 0.06)))
        leaf = ellipse(centre, (0.17 * scale, 0.24 * scale))
        canvas.fill(leaf + rng.normal(0, 0.025 * scale, leaf.shape), tuple(green * rng.uniform(0.8, 1.2)), 0.12 * scale)


def _pillar(rng: np.random.Generator, canvas: PropCanvas, scale: float) -> None:
    tone = float(rng.uniform(120, 215))
    canvas.fill(canvas.box(-0.24, -4.0, 0.24, 0), (tone * 0.96, tone, tone), 0.22 * scale)
    canvas.fill(canvas.box(-0.30, -0.2, 0.30, 0), (tone * 0.7,) * 3, 0.1 * scale)


def _stand(rng: np.random.Generator, canvas: PropCanvas, scale: float) -> None:
    """A poster on two legs."""
    for x in (-0.38, 0.38):
        canvas.fill(capsule(*canvas.at((x, 0), (x, -0.6)), 0.04 * scale, 0.04 * scale), (70, 70, 72), 2)
    canvas.fill(canvas.box(-0.5, -1.75, 0.5, -0.4), (210, 212, 214), 0.04 * scale)
    for _ in range(5):
        x, y, colour = rng.uniform(-0.42, 0.2), rng.uniform(-1.65, -0.8), tuple(rng.uniform(40, 220, 3))
        canvas.fill(canvas.box(x, y, x + rng.uniform(0.1, 0.25), y + rng.uniform(0.1, 0.35)), colour, 1)


def _car(rng: np.random.Generator, canvas: PropCanvas, scale: float) -> None:
    colour = np.array(_CAR_COLOURS[rng.integers(len(_CAR_COLOURS))], float)
    mirror = rng.choice([-1, 1])
    cabin = ((-1.35, -0.85), (-0.85, -1.42), (0.45, -1.45), (1.15, -0.88))
    rear_window = ((-1.12, -0.88), (-0.76, -1.33), (-0.25, -1.36), (-0.25, -0.88))
    front_window = ((-0.17, -0.88), (-0.17, -1.36), (0.4, -1.36), (0.92, -0.88))
    body = ((-2.05, -0.35), (-2.0, -0.75), (-1.35, -0.92), (1.2, -0.9), (1.95, -0.7), (2.1, -0.32), (1.9, -0.22))
    headlight = ((1.88, -0.66), (2.04, -0.6), (2.04, -0.48), (1.85, -0.5))
    tail_light = ((-2.02, -0.7), (-1.9, -0.7), (-1.9, -0.52), (-2.02, -0.52))
    for points, paint, roundness in (
        (cabin, colour * 0.9, 0.3 * scale),
        (rear_window, (88, 80, 72), 0.15 * scale),
        (front_window, (88, 80, 72), 0.15 * scale),
        ((*body, (-1.95, -0.22)), colour, 0.35 * scale),
        (headlight, (210, 225, 230), 1),
        (tail_light, (45, 40, 165), 1),
    ):
        canvas.fill(canvas.at(*((x * mirror, y) for x, y in points)), tuple(paint), roundness)
    for wheel in canvas.at((-1.3 * mirror, -0.30), (1.3 * mirror, -0.30)):
        canvas.fill(ellipse(wheel, (0.33 * scale, 0.33 * scale)), (32, 32, 33), 0.1 * scale)
        canvas.fill(ellipse(wheel, (0.19 * scale, 0.19 * scale)), (150, 150, 152), 0.1 * scale)


def _bicycle(rng: np.random.Generator, canvas: PropCanvas, scale: float) -> None:
    tone = float(rng.uniform(30, 90))
    rear, front, saddle, crank, bar = canvas.at(
        (-0.52, -0.34), (0.52, -0.34), (-0.2, -0.85), (-0.05, -0.34), (0.35, -0.9)
    )
    for wheel in (rear, front):
        ring = ellipse(wheel, (0.34 * scale, 0.34 * scale))
        inner = ellipse(wheel, (0.29 * scale, 0.29 * scale))[::-1]
        canvas.fill(np.concatenate([ring, inner]), (45, 45, 46), 1)
    colour = tuple(rng.uniform(30, 200, 3))
    for start, end in ((saddle, crank), (saddle, bar), (crank, bar), (rear, saddle), (rear, crank), (front, bar)):
        canvas.fill(capsule(start, end, 0.022 * scale, 0.022 * scale), colour, 1)
    seat = capsule(saddle - (0.1 * scale, 0), saddle + (0.08 * scale, 0), 0.04 * scale, 0.03 * scale)
    canvas.fill(seat, (tone,) * 3, 2)


PROPS = {  # half width and height in metres, painter
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
