"""Painting a person."""

from collections.abc import Iterator

import numpy as np

from .appearance import Appearance
from .bags import bag_parts
from .body import Figure, Part
from .canvas import Canvas, Sprite, ellipse
from .cloth import shade
from .head import head_parts
from .pose import DEPTH, HIP, HIP_WIDTH, SHOULDER, SHOULDER_WIDTH, Pose

_OVERSAMPLING = 2
_HALF_WIDTH, _ABOVE, _BELOW = 0.62, 1.12, 0.14  # room on the canvas, in heights of the person


def paint_figure(
    person: Appearance, pose: Pose, pixels_per_metre: float, feet: tuple[float, float], light: tuple[float, float]
) -> Sprite:
    """Paint a person whose feet stand at an image point.

    Args:
        person: Who.
        pose: How.
        pixels_per_metre: Scale at the feet.
        feet: Image point x, y in pixels.
        light: Direction to the light in the image.
    """
    scale = pixels_per_metre * _OVERSAMPLING
    unit = person.height * scale
    width = _OVERSAMPLING * int(np.ceil(2 * _HALF_WIDTH * unit / _OVERSAMPLING))
    height = _OVERSAMPLING * int(np.ceil((_ABOVE + _BELOW) * unit / _OVERSAMPLING))
    corner = width / 2, _ABOVE * unit
    canvas = Canvas(width, height, light)
    figure = Figure(person, pose, scale, corner)
    for part in sorted(_parts(figure), key=lambda part: part.depth):
        canvas.fill(part.outline, part.paint, part.roundness)
    x, y = np.subtract(feet, np.divide(corner, _OVERSAMPLING))
    return canvas.shrink(_OVERSAMPLING, x, y).trimmed()


def _parts(figure: Figure) -> Iterator[Part]:
    for side in ('l_', 'r_'):
        yield from _leg(figure, side)
        yield from _arm(figure, side)
    yield from _torso(figure)
    yield from head_parts(figure)
    yield from bag_parts(figure)


def _leg(figure: Figure, side: str) -> Iterator[Part]:
    person, cloth = figure.person, figure.cloth
    hip, knee, ankle, toe = (side + name for name in ('hip', 'knee', 'ankle', 'toe'))
    covered = person.bottom_kind == 'trousers'
    shin = cloth.plain(person.bottom) if covered else person.skin
    thigh = cloth.plain(person.bottom) if person.bottom_kind != 'skirt' else person.skin
    yield figure.limb(ankle, toe, (0.024, 0.018), person.shoes, -0.01)
    yield figure.limb(knee, ankle, (0.036, 0.027 if covered else 0.021), shin)
    # The hem of the top lies over the thighs, whichever leg is in front.
    under = figure.depth('neck') - 0.05 - 0.8 * figure.depth(hip, knee)
    yield figure.limb(hip, knee, (0.058, 0.040), thigh, under)


def _arm(figure: Figure, side: str) -> Iterator[Part]:
    person, cloth = figure.person, figure.cloth
    shoulder, elbow, hand = (side + name for name in ('shoulder', 'elbow', 'hand'))
    # An arm beside the body is seen whole from the front and the back: it must not sink into the torso.
    out = 0.0 if abs(figure.facing) < 0.5 else 0.06
    forearm = cloth if person.sleeves == 'long' else person.skin
    yield Part(figure.depth(hand) + out, ellipse(figure.at(hand), (0.021 * figure.unit,) * 2), person.skin, 3)
    yield figure.limb(elbow, hand, (0.025, 0.018), forearm, out)
    yield figure.limb(shoulder, elbow, (0.031, 0.026), cloth, out)


def _torso(figure: Figure) -> Iterator[Part]:
    person = figure.person
    x, middle = figure.at('neck')[0], figure.depth('neck')
    yield figure.limb('head', 'neck', (0.028, 0.032), shade(person.skin, 0.85), -0.02)
    if person.bottom_kind == 'skirt':
        yield _skirt(figure, x, middle)
    hem = 0.30 if person.coat else HIP - 0.03
    levels = (SHOULDER + 0.022, SHOULDER - 0.005, 0.72, 0.60, HIP, hem)
    sides = (0.045, SHOULDER_WIDTH, 0.100, 0.088, HIP_WIDTH + 0.046, 0.115 if person.coat else HIP_WIDTH + 0.048)
    depths = (0.04, DEPTH * 0.8, DEPTH, DEPTH * 0.92, DEPTH, DEPTH * (1.35 if person.coat else 1.0))
    yield Part(middle, _column(figure, x, levels, sides, depths), figure.cloth, 0.08 * figure.unit)
    if figure.facing > 0.2:
        throat = np.array([x, figure.level(SHOULDER + 0.018)])
        neckline = ellipse(throat, (0.036 * figure.unit * figure.facing, 0.030 * figure.unit), 0, np.pi)
        yield Part(middle + 0.01, neckline, person.skin, 2)


def _skirt(figure: Figure, x: float, middle: float) -> Part:
    levels, sides, depths = (HIP + 0.05, HIP - 0.05, 0.30), (0.085, 0.105, 0.125), (0.065, 0.075, 0.095)
    outline = _column(figure, x, levels, sides, depths)
    return Part(middle - 0.005, outline, figure.cloth.plain(figure.person.bottom), 0.07 * figure.unit)


def _column(figure: Figure, x: float, levels: tuple, sides: tuple, depths: tuple) -> np.ndarray:
    """Outline of a part of the trunk: its half widths at several heights."""
    rows = np.array([figure.level(level) for level in levels])
    widths = np.array([figure.half_width(side, depth) for side, depth in zip(sides, depths, strict=True)])
    right, left = np.stack([x + widths, rows], 1), np.stack([x - widths, rows], 1)
    return np.concatenate([right, left[::-1]])
