"""Head, face, hair and hat."""

from collections.abc import Iterator

import numpy as np

from .body import Figure, Part
from .canvas import box, ellipse
from .cloth import shade
from .pose import SHOULDER


def head_parts(figure: Figure) -> Iterator[Part]:
    """Everything above the neck."""
    yield from _head(figure)
    yield from _hair(figure)
    yield from _hat(figure)


def _head(figure: Figure) -> Iterator[Part]:
    centre, unit, depth = figure.at('head'), figure.unit, figure.depth('head')
    turned = np.sin(figure.pose.yaw)
    skin = figure.person.skin
    radii = (0.048 + 0.008 * abs(turned)) * unit, 0.066 * unit
    yield Part(depth + 0.05, ellipse(centre, radii), skin, 0.05 * unit)
    if figure.facing > -0.3:
        yield from _face(figure, centre + (0.03 * unit * turned, 0), depth + 0.07)


def _face(figure: Figure, centre: np.ndarray, depth: float) -> Iterator[Part]:
    unit, skin = figure.unit, figure.person.skin
    spread = 0.020 * unit * figure.facing
    dark = shade(skin, 0.35)
    for sign in (-1, 1) if figure.facing > 0.4 else (np.sign(np.sin(figure.pose.yaw)),):
        eye = centre + (sign * spread, -0.006 * unit)
        yield Part(depth, ellipse(eye, (0.009 * unit, 0.006 * unit)), dark, 1)
    nose = centre + (0.012 * unit * np.sin(figure.pose.yaw), 0.012 * unit)
    yield Part(depth, ellipse(nose, (0.007 * unit, 0.012 * unit)), shade(skin, 0.82), 1)
    yield Part(depth, ellipse(centre + (0, 0.036 * unit), (0.014 * unit, 0.005 * unit)), shade(skin, 0.6), 1)


def _hair(figure: Figure) -> Iterator[Part]:
    person, unit, behind = figure.person, figure.unit, figure.facing < -0.1
    if person.hair_length == 'bald':
        return
    depth, turned = figure.depth('head'), np.sin(figure.pose.yaw)
    back = figure.at('head') - (0.016 * unit * turned, 0)
    radii = (0.055 + 0.004 * abs(turned)) * unit, 0.052 * unit
    yield Part(depth + 0.08, ellipse(back - (0, 0.022 * unit), radii, np.pi, 2 * np.pi), person.hair, 0.04 * unit)
    # The back of the head hides the face from behind and is hidden by it from the front.
    rear = ellipse(back - (0.006 * unit * turned, 0.008 * unit), (0.054 * unit, 0.066 * unit))
    yield Part(depth + (0.09 if figure.facing < -0.3 else 0.0), rear, person.hair, 0.05 * unit)
    if person.hair_length == 'long':
        half, low = 0.056 * unit, figure.level(SHOULDER - 0.045)
        locks = box(back[0] - half, back[1], back[0] + half, low)
        yield Part(depth + (0.1 if behind else -0.03), locks, person.hair, 0.04 * unit)
    if person.hair_length == 'bun':
        bun = ellipse(back - (0.05 * unit * turned, 0.058 * unit), (0.030 * unit, 0.028 * unit))
        yield Part(depth + (0.11 if behind else -0.03), bun, person.hair, 0.02 * unit)


def _hat(figure: Figure) -> Iterator[Part]:
    person, unit = figure.person, figure.unit
    if person.hat == 'none':
        return
    centre, depth, turned = figure.at('head'), figure.depth('head'), np.sin(figure.pose.yaw)
    drop = 0.012 if person.hat == 'beanie' else 0.026
    dome = ellipse(centre - (0.008 * unit * turned, drop * unit), (0.060 * unit, 0.056 * unit), np.pi, 2 * np.pi)
    yield Part(depth + 0.12, dome, person.hat_colour, 0.04 * unit)
    if person.hat == 'cap' and figure.facing > -0.5:
        peak = centre + (0.045 * unit * turned, -0.027 * unit)
        outline = ellipse(peak, ((0.05 + 0.012 * abs(turned)) * unit, 0.013 * unit))
        yield Part(depth + 0.13, outline, shade(person.hat_colour, 0.75), 2)
