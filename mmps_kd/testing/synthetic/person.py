"""A person: attributes, three-dimensional pose, and the sprite that is painted from both."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .canvas import TEXTURE_SIZE, Canvas, Colour, Paint, Sprite, box, capsule, cloudy, ellipse, shade

# Few values of each attribute, so that only their combination identifies a person. Colours are B, G, R.
SKIN = ((185, 205, 235), (150, 180, 220), (110, 145, 195), (70, 95, 140), (45, 60, 95))
HAIR = ((25, 25, 30), (35, 45, 65), (50, 80, 120), (90, 150, 190), (150, 150, 155))
# fmt: off
CLOTHES = (
    (35, 32, 32), (235, 235, 235), (140, 138, 135), (45, 40, 175), (135, 75, 35), (190, 130, 60),
    (70, 115, 50), (75, 190, 225), (50, 115, 215), (115, 55, 105), (175, 150, 225), (120, 165, 190),
)
TROUSERS = (
    (40, 36, 36), (110, 70, 40), (150, 110, 75), (105, 105, 105), (120, 160, 185), (60, 75, 100), (225, 225, 225),
)
# fmt: on
SHOES = ((30, 30, 32), (230, 230, 230), (50, 75, 115), (50, 45, 170), (120, 118, 118))

# Attributes of :class:`Appearance` that people share who dress alike.
OUTFIT = ('top', 'second', 'pattern', 'sleeves', 'coat', 'bottom', 'bottom_kind')

# Body proportions as fractions of the height.
HIP, SHOULDER, CHIN, CROWN = 0.50, 0.815, 0.865, 1.0
THIGH, SHIN, FOOT = 0.235, 0.235, 0.115
UPPER_ARM, FOREARM = 0.165, 0.145
SHOULDER_WIDTH, HIP_WIDTH, DEPTH = 0.112, 0.052, 0.068  # half widths

_OVERSAMPLING = 2
_HALF_WIDTH, _ABOVE, _BELOW = 0.62, 1.12, 0.14  # margins of the canvas around the feet, in heights of the person
_FOLDS = 0.10  # strength of the folds of cloth
_STRIPE = 0.052  # period of stripes in body heights


@dataclass(frozen=True)
class Appearance:
    """Build, clothes and belongings of one person."""

    height: float  # metres
    girth: float  # 1 is medium
    skin: Colour
    hair: Colour
    hair_length: str
    top: Colour
    second: Colour  # the other colour of the top's pattern
    pattern: str
    sleeves: str
    coat: bool
    bottom: Colour
    bottom_kind: str
    shoes: Colour
    bag: str
    bag_colour: Colour
    hat: str
    hat_colour: Colour


@dataclass(frozen=True)
class Pose:
    """Orientation of the body and state of its limbs, angles in radians."""

    yaw: float  # 0: towards the camera, pi: away from it, pi / 2: to the right of the image
    phase: float  # of the walk
    stride: float  # 0: standing, 1: long steps
    elbows: tuple[float, float]
    tilt: float  # of the camera, downwards


class Part(NamedTuple):
    """A shape of the body. Larger depth (metres) is nearer to the camera and painted later."""

    depth: float
    outline: np.ndarray
    paint: Paint
    roundness: float


def sample_appearance(rng: np.random.Generator) -> Appearance:
    """Sample the attributes of a person."""

    def one_of(*values: object) -> object:
        return values[rng.integers(len(values))]

    top, second = (CLOTHES[i] for i in rng.choice(len(CLOTHES), 2, replace=False))
    return Appearance(
        height=float(np.clip(rng.normal(1.70, 0.09), 1.48, 1.93)),
        girth=float(rng.choice([0.88, 1.0, 1.15])),
        skin=one_of(*SKIN),
        hair=one_of(*HAIR),
        hair_length=one_of('short', 'short', 'long', 'bald' if rng.random() < 0.2 else 'bun'),
        top=top,
        second=second,
        pattern=one_of(*PATTERN_MASKS),
        sleeves=one_of('long', 'long', 'short'),
        coat=bool(rng.random() < 0.2),
        bottom=one_of(*TROUSERS),
        bottom_kind=one_of('trousers', 'trousers', 'trousers', 'shorts', 'skirt'),
        shoes=one_of(*SHOES),
        bag=one_of('none', 'none', 'backpack', 'shoulder', 'handbag'),
        bag_colour=one_of(*CLOTHES),
        hat=one_of('none', 'none', 'none', 'none', 'cap', 'beanie'),
        hat_colour=one_of(*CLOTHES),
    )


def sample_pose(rng: np.random.Generator, tilt: float) -> Pose:
    """Sample a pose: three of four persons walk, most of them along the camera's view or across it."""
    yaw = float(rng.choice([0, 0, np.pi, np.pi, np.pi / 2, -np.pi / 2]) + rng.normal(0, 0.45))
    stride = float(rng.choice([0.1, rng.uniform(0.5, 1)], p=[0.25, 0.75]))
    bent = rng.random(2) < 0.18
    elbows = np.where(bent, rng.uniform(1.3, 2.1, 2), rng.uniform(0.1, 0.5, 2))
    return Pose(yaw, float(rng.uniform(0, 2 * np.pi)), stride, (float(elbows[0]), float(elbows[1])), tilt)


def paint_person(
    person: Appearance, pose: Pose, pixels_per_metre: float, feet: tuple[float, float], light: tuple[float, float]
) -> Sprite:
    """Paint a person, without empty margins.

    Args:
        person: Attributes.
        pose: Pose.
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
    for part in sorted(figure.parts(), key=lambda part: part.depth):
        canvas.fill(part.outline, part.paint, part.roundness)
    colour, alpha, x, y = canvas.shrink(_OVERSAMPLING, *np.subtract(feet, np.divide(corner, _OVERSAMPLING)))
    rows, columns = np.flatnonzero((alpha > 0.5).any(1)), np.flatnonzero((alpha > 0.5).any(0))
    area = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Sprite(colour[area], alpha[area], x + int(columns[0]), y + int(rows[0]))


class Figure:
    """A person in a pose, in pixels of the canvas; ``corner`` is the canvas point of the feet."""

    def __init__(self, person: Appearance, pose: Pose, pixels_per_metre: float, corner: tuple[float, float]) -> None:
        self.person, self.pose = person, pose
        self.scale = pixels_per_metre
        self.unit = person.height * pixels_per_metre  # pixels of one body height; lengths below are in body heights
        self.corner = np.array(corner)
        self.facing = np.cos(pose.yaw)  # 1: front seen, -1: back seen
        self.turned = np.sin(pose.yaw)
        self.joints = self._joints()

    def _joints(self) -> dict[str, np.ndarray]:
        """Projected joints (3,): x to the right, y down (metres, feet at 0), depth towards the camera."""
        pose, person = self.pose, self.person
        # In the body's frame, in body heights: x to its left side, y forward, z up.
        points = {'pelvis': (0, 0, HIP), 'neck': (0, 0.01, CHIN - 0.02), 'head': (0, 0.02, 0.5 * (CHIN + CROWN))}
        for side, sign, bend in (('l_', 1, pose.elbows[0]), ('r_', -1, pose.elbows[1])):
            # The two legs are half a walking cycle apart; each arm swings against the leg of its side.
            phase = pose.phase + (0 if sign > 0 else np.pi)
            thigh = 0.5 * pose.stride * np.sin(phase)
            shin = thigh - (0.06 + 0.85 * pose.stride * max(0.0, np.cos(phase)))
            sole = min(shin, 0.1) * 0.8
            hip = np.array([sign * HIP_WIDTH * person.girth, 0, HIP])
            knee = hip + THIGH * np.array([0, np.sin(thigh), -np.cos(thigh)])
            ankle = knee + SHIN * np.array([0, np.sin(shin), -np.cos(shin)])
            toe = ankle + FOOT * np.array([sign * 0.15, np.cos(sole), np.sin(sole)]) - (0, 0, 0.015)
            swing, inward = (-0.55 * pose.stride * np.sin(phase), 0.04) if bend < 1 else (-0.1, -0.35)
            shoulder = np.array([sign * SHOULDER_WIDTH * person.girth, 0, SHOULDER - 0.012])
            elbow = shoulder + UPPER_ARM * np.array([sign * 0.16, np.sin(swing), -np.cos(swing)])
            hand = elbow + FOREARM * np.array([sign * inward, np.sin(swing + bend), -np.cos(swing + bend)])
            limbs = dict(hip=hip, knee=knee, ankle=ankle, toe=toe, shoulder=shoulder, elbow=elbow, hand=hand)
            points |= {side + name: point for name, point in limbs.items()}
        lowest = min(points['l_ankle'][2], points['r_ankle'][2]) - 0.03
        joints = {}
        for name, point in points.items():
            x, y, z = np.subtract(point, (0, 0, lowest)) * person.height
            across = x * np.cos(pose.yaw) + y * np.sin(pose.yaw)
            depth = y * np.cos(pose.yaw) - x * np.sin(pose.yaw)
            joints[name] = np.array([across, -z * np.cos(pose.tilt) + depth * np.sin(pose.tilt), depth])
        return joints

    def at(self, name: str) -> np.ndarray:
        """A joint (2,) in canvas pixels."""
        return self.joints[name][:2] * self.scale + self.corner

    def depth(self, *names: str) -> float:
        """Mean depth of joints."""
        return float(np.mean([self.joints[name][2] for name in names]))

    def level(self, height: float) -> float:
        """Canvas row of a height above the ground in body heights."""
        return self.at('pelvis')[1] - (height - HIP) * self.unit * np.cos(self.pose.tilt)

    def half_width(self, side: float, depth: float) -> float:
        """Half width in pixels of a turned elliptic body section with these half axes in body heights."""
        return self.unit * np.hypot(side * self.facing, depth * self.turned) * self.person.girth

    def limb(self, start: str, end: str, radii: tuple[float, float], paint: Paint, nearer: float = 0) -> Part:
        """A tapering limb between two joints, radii in body heights."""
        first, last = (radius * self.unit * self.person.girth for radius in radii)
        outline = capsule(self.at(start), self.at(end), first, last)
        return Part(self.depth(start, end) + nearer, outline, paint, max(first, last))

    def column(self, levels: tuple, sides: tuple, depths: tuple) -> np.ndarray:
        """Outline of a part of the trunk from its half axes at several heights."""
        x = self.at('neck')[0]
        rows = np.array([self.level(level) for level in levels])
        widths = np.array([self.half_width(side, depth) for side, depth in zip(sides, depths, strict=True)])
        right, left = np.stack([x + widths, rows], 1), np.stack([x - widths, rows], 1)
        return np.concatenate([right, left[::-1]])

    def cloth(self, colour: Colour) -> Paint:
        """Paint of folded cloth in one colour."""
        return lambda columns, rows: np.float32(colour) * self._folds(columns, rows)

    def top(self, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Paint of the top: its pattern, fixed to the chest, and folds."""
        across = ((columns - self.at('neck')[0]) / self.unit + 0.05 * self.turned)[None, :]
        down = ((rows - self.level(SHOULDER)) / self.unit)[:, None]
        second = PATTERN_MASKS[self.person.pattern](across, down, self.facing)[..., None]
        colour = np.where(second, np.float32(self.person.second), np.float32(self.person.top))
        return colour * self._folds(columns, rows)

    def _folds(self, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        across = (columns * (300 / self.unit) + self.at('neck')[0]).astype(int) % TEXTURE_SIZE
        down = (rows * (130 / self.unit) + self.level(SHOULDER)).astype(int) % TEXTURE_SIZE
        return (1 + _FOLDS * cloudy()[np.ix_(down, across)])[..., None]

    def parts(self) -> Iterator[Part]:
        """All shapes of the figure, in no order of depth."""
        for side in ('l_', 'r_'):
            yield from self._leg(side)
            yield from self._arm(side)
        yield from self._torso()
        yield from self._head()
        yield from self._hair()
        yield from self._hat()
        yield from self._bag()

    def _leg(self, side: str) -> Iterator[Part]:
        person = self.person
        hip, knee, ankle, toe = (side + name for name in ('hip', 'knee', 'ankle', 'toe'))
        covered = person.bottom_kind == 'trousers'
        shin = self.cloth(person.bottom) if covered else person.skin
        thigh = self.cloth(person.bottom) if person.bottom_kind != 'skirt' else person.skin
        yield self.limb(ankle, toe, (0.024, 0.018), person.shoes, -0.01)
        yield self.limb(knee, ankle, (0.036, 0.027 if covered else 0.021), shin)
        # The hem of the top lies over the thighs, whichever leg is in front.
        under = self.depth('neck') - 0.05 - 0.8 * self.depth(hip, knee)
        yield self.limb(hip, knee, (0.058, 0.040), thigh, under)

    def _arm(self, side: str) -> Iterator[Part]:
        person = self.person
        shoulder, elbow, hand = (side + name for name in ('shoulder', 'elbow', 'hand'))
        # An arm beside the body is fully visible from the front and the back: it must not sink into the torso.
        out = 0.0 if abs(self.facing) < 0.5 else 0.06
        forearm = self.top if person.sleeves == 'long' else person.skin
        yield Part(self.depth(hand) + out, ellipse(self.at(hand), (0.021 * self.unit,) * 2), person.skin, 3)
        yield self.limb(elbow, hand, (0.025, 0.018), forearm, out)
        yield self.limb(shoulder, elbow, (0.031, 0.026), self.top, out)

    def _torso(self) -> Iterator[Part]:
        person, unit, middle = self.person, self.unit, self.depth('neck')
        yield self.limb('head', 'neck', (0.028, 0.032), shade(person.skin, 0.85), -0.02)
        if person.bottom_kind == 'skirt':
            levels, sides, depths = (HIP + 0.05, HIP - 0.05, 0.30), (0.085, 0.105, 0.125), (0.065, 0.075, 0.095)
            yield Part(middle - 0.005, self.column(levels, sides, depths), self.cloth(person.bottom), 0.07 * unit)
        levels = (SHOULDER + 0.022, SHOULDER - 0.005, 0.72, 0.60, HIP, 0.30 if person.coat else HIP - 0.03)
        sides = (0.045, SHOULDER_WIDTH, 0.100, 0.088, HIP_WIDTH + 0.046, 0.115 if person.coat else HIP_WIDTH + 0.048)
        depths = (0.04, DEPTH * 0.8, DEPTH, DEPTH * 0.92, DEPTH, DEPTH * (1.35 if person.coat else 1.0))
        yield Part(middle, self.column(levels, sides, depths), self.top, 0.08 * unit)
        if self.facing > 0.2:
            throat = np.array([self.at('neck')[0], self.level(SHOULDER + 0.018)])
            neckline = ellipse(throat, (0.036 * unit * self.facing, 0.030 * unit), 0, np.pi)
            yield Part(middle + 0.01, neckline, person.skin, 2)

    def _head(self) -> Iterator[Part]:
        centre, unit, depth, turned, skin = (
            self.at('head'),
            self.unit,
            self.depth('head'),
            self.turned,
            self.person.skin,
        )
        radii = (0.048 + 0.008 * abs(turned)) * unit, 0.066 * unit
        yield Part(depth + 0.05, ellipse(centre, radii), skin, 0.05 * unit)
        if self.facing <= -0.3:
            return
        face = centre + (0.03 * unit * turned, 0)
        for sign in (-1, 1) if self.facing > 0.4 else (np.sign(turned),):
            eye = face + (sign * (0.020 * unit * self.facing), -0.006 * unit)
            yield Part(depth + 0.07, ellipse(eye, (0.009 * unit, 0.006 * unit)), shade(skin, 0.35), 1)
        nose = face + (0.012 * unit * turned, 0.012 * unit)
        yield Part(depth + 0.07, ellipse(nose, (0.007 * unit, 0.012 * unit)), shade(skin, 0.82), 1)
        mouth = ellipse(face + (0, 0.036 * unit), (0.014 * unit, 0.005 * unit))
        yield Part(depth + 0.07, mouth, shade(skin, 0.6), 1)

    def _hair(self) -> Iterator[Part]:
        person, unit, turned, behind = self.person, self.unit, self.turned, self.facing < -0.1
        if person.hair_length == 'bald':
            return
        depth = self.depth('head')
        back = self.at('head') - (0.016 * unit * turned, 0)
        radii = (0.055 + 0.004 * abs(turned)) * unit, 0.052 * unit
        yield Part(depth + 0.08, ellipse(back - (0, 0.022 * unit), radii, np.pi, 2 * np.pi), person.hair, 0.04 * unit)
        # The back of the head hides the face in a rear view and is hidden by it in a front view.
        rear = ellipse(back - (0.006 * unit * turned, 0.008 * unit), (0.054 * unit, 0.066 * unit))
        yield Part(depth + (0.09 if self.facing < -0.3 else 0.0), rear, person.hair, 0.05 * unit)
        if person.hair_length == 'long':
            half, low = 0.056 * unit, self.level(SHOULDER - 0.045)
            locks = box(back[0] - half, back[1], back[0] + half, low)
            yield Part(depth + (0.1 if behind else -0.03), locks, person.hair, 0.04 * unit)
        if person.hair_length == 'bun':
            bun = ellipse(back - (0.05 * unit * turned, 0.058 * unit), (0.030 * unit, 0.028 * unit))
            yield Part(depth + (0.11 if behind else -0.03), bun, person.hair, 0.02 * unit)

    def _hat(self) -> Iterator[Part]:
        person, unit, turned = self.person, self.unit, self.turned
        if person.hat == 'none':
            return
        centre, depth = self.at('head'), self.depth('head')
        drop = 0.012 if person.hat == 'beanie' else 0.026
        dome = ellipse(centre - (0.008 * unit * turned, drop * unit), (0.060 * unit, 0.056 * unit), np.pi, 2 * np.pi)
        yield Part(depth + 0.12, dome, person.hat_colour, 0.04 * unit)
        if person.hat == 'cap' and self.facing > -0.5:
            peak = centre + (0.045 * unit * turned, -0.027 * unit)
            outline = ellipse(peak, ((0.05 + 0.012 * abs(turned)) * unit, 0.013 * unit))
            yield Part(depth + 0.13, outline, shade(person.hat_colour, 0.75), 2)

    def _bag(self) -> Iterator[Part]:
        kind, unit, facing, colour = self.person.bag, self.unit, self.facing, self.person.bag_colour
        x, middle = self.at('neck')[0], self.depth('neck')
        if kind == 'backpack':
            centre, half = x - self.turned * 0.105 * unit, self.half_width(0.088, 0.06)
            top, bottom = self.level(SHOULDER - 0.01), self.level(HIP + 0.06)
            depth = middle - np.sign(facing) * 0.14 if abs(facing) > 0.35 else middle + 0.02
            yield Part(depth, box(centre - half, top, centre + half, bottom), colour, 0.06 * unit)
            if facing < -0.35:
                pocket = box(
                    centre - half * 0.7, top + 0.55 * (bottom - top), centre + half * 0.7, bottom - 0.02 * unit
                )
                yield Part(depth + 0.01, pocket, shade(colour, 0.82), 0.03 * unit)
            for sign in (-1, 1) if facing > 0.35 else ():
                start = np.array([x + sign * 0.062 * unit * facing, self.level(SHOULDER + 0.012)])
                end = np.array([x + sign * 0.075 * unit * facing, self.level(0.63)])
                yield Part(middle + 0.07, capsule(start, end, 0.014 * unit, 0.010 * unit), colour, 2)
        elif kind == 'shoulder':
            hip = self.at('r_hip') + (facing * -0.06 * unit, 0.01 * unit)
            depth = middle + 0.13 if self.depth('r_hip') > -0.06 else middle - 0.1
            strap = capsule(self.at('l_shoulder') - (0, 0.01 * unit), hip, 0.008 * unit, 0.008 * unit)
            yield Part(middle + 0.1, strap, shade(colour, 0.7), 1)
            half = self.half_width(0.05, 0.085)
            bag = box(hip[0] - half, hip[1] - 0.05 * unit, hip[0] + half, hip[1] + 0.065 * unit)
            yield Part(depth, bag, colour, 5)
        elif kind == 'handbag':
            hand, half, depth = self.at('l_hand'), self.half_width(0.045, 0.09), self.depth('l_hand') + 0.05
            top = hand[1] + 0.045 * unit
            handle = capsule(hand, np.array([hand[0], top]), 0.02 * unit, 0.03 * unit)
            yield Part(depth, handle, shade(colour, 0.6), 2)
            yield Part(depth, box(hand[0] - half, top, hand[0] + half, top + 0.1 * unit), colour, 0.03 * unit)


def _odd(length: np.ndarray, period: float) -> np.ndarray:
    return np.mod(length, period) < period / 2


# Where a top shows its second colour: masks that broadcast to (h, w), from the distance in body heights to the right of
# the chest's middle (1, w) and below the shoulders (h, 1), and from the cosine of the yaw. Sampled in this order.
PATTERN_MASKS: dict[str, Callable[[np.ndarray, np.ndarray, float], np.ndarray]] = {
    'plain': lambda across, down, facing: np.False_,
    'stripes': lambda across, down, facing: _odd(down, _STRIPE),
    'pinstripes': lambda across, down, facing: _odd(across, _STRIPE * 0.9),
    'check': lambda across, down, facing: _odd(across, _STRIPE * 1.5) ^ _odd(down, _STRIPE * 1.5),
    'block': lambda across, down, facing: down < 0.12,
    'logo': lambda across, down, facing: (
        (np.abs(across) < 0.05 * abs(facing)) & (np.abs(down - 0.11) < (0.03 if facing > 0 else 0.055))
    ),
    'open': lambda across, down, facing: (np.abs(across) < (0.036 if facing > 0.3 else 0) * facing) & (down < 0.40),
}
