"""What people carry."""

from collections.abc import Iterator

import numpy as np

from .body import Figure, Part
from .canvas import box, capsule
from .cloth import shade
from .pose import HIP, SHOULDER


def bag_parts(figure: Figure) -> Iterator[Part]:
    """The bag, if there is one."""
    kind, unit, colour = figure.person.bag, figure.unit, figure.person.bag_colour
    x, middle = figure.at('neck')[0], figure.depth('neck')
    if kind == 'backpack':
        yield from _backpack(figure, x, middle)
    elif kind == 'shoulder':
        hip = figure.at('r_hip') + (np.cos(figure.pose.yaw) * -0.06 * unit, 0.01 * unit)
        depth = middle + 0.13 if figure.joints['r_hip'][2] > -0.06 else middle - 0.1
        strap = capsule(figure.at('l_shoulder') - (0, 0.01 * unit), hip, 0.008 * unit, 0.008 * unit)
        yield Part(middle + 0.1, strap, shade(colour, 0.7), 1)
        half = figure.half_width(0.05, 0.085)
        yield Part(depth, box(hip[0] - half, hip[1] - 0.05 * unit, hip[0] + half, hip[1] + 0.065 * unit), colour, 5)
    elif kind == 'handbag':
        hand = figure.at('l_hand')
        half = figure.half_width(0.045, 0.09)
        top = hand[1] + 0.045 * unit
        depth = figure.depth('l_hand') + 0.05
        yield Part(depth, capsule(hand, np.array([hand[0], top]), 0.02 * unit, 0.03 * unit), shade(colour, 0.6), 2)
        yield Part(depth, box(hand[0] - half, top, hand[0] + half, top + 0.1 * unit), colour, 0.03 * unit)


def _backpack(figure: Figure, x: float, middle: float) -> Iterator[Part]:
    unit, colour = figure.unit, figure.person.bag_colour
    centre = x - np.sin(figure.pose.yaw) * 0.105 * unit
    half = figure.half_width(0.088, 0.06)
    top, bottom = figure.level(SHOULDER - 0.01), figure.level(HIP + 0.06)
    depth = middle - np.sign(figure.facing) * 0.14 if abs(figure.facing) > 0.35 else middle + 0.02
    yield Part(depth, box(centre - half, top, centre + half, bottom), colour, 0.06 * unit)
    if figure.facing < -0.35:
        pocket = box(centre - half * 0.7, top + 0.55 * (bottom - top), centre + half * 0.7, bottom - 0.02 * unit)
        yield Part(depth + 0.01, pocket, shade(colour, 0.82), 0.03 * unit)
    if figure.facing > 0.35:
        for sign in (-1, 1):
            start = np.array([x + sign * 0.062 * unit * figure.facing, figure.level(SHOULDER + 0.012)])
            end = np.array([x + sign * 0.075 * unit * figure.facing, figure.level(0.63)])
            yield Part(middle + 0.07, capsule(start, end, 0.014 * unit, 0.010 * unit), colour, 2)
