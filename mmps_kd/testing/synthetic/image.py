"""One image: persons and props in a sampled place, hidden by nearer ones, with light, shadows and camera noise."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from mmps_kd.structures import UNLABELLED

from .background import LARGEST, SMALLEST, Place, View, sample_place, sample_view
from .canvas import Sprite, crop, grain
from .person import Appearance, paint_person, sample_appearance, sample_pose
from .plan import PersonBox
from .props import paint_prop

LEAST_VISIBLE = 0.4  # persons with a smaller visible fraction are not annotated
_PROP = -2  # in the place of a person's identity
_IN_COMPANY = 0.3  # share of persons who walk beside another one
_FLAT = 0.28  # length of a shadow, in heights of what casts it


class Light(NamedTuple):
    """Direction to the light in the image, its colour and strength as a gain of B, G, R, strength of shadows 0..1."""

    direction: tuple[float, float]
    gain: np.ndarray
    shadow: float


class Item(NamedTuple):
    """A sprite in the image, its identity, its scale (pixels a metre) and its foot point x, y."""

    sprite: Sprite
    identity: int
    scale: float
    foot: tuple[float, float]


def render_image(
    rng: np.random.Generator,
    place_rng: np.random.Generator,
    persons: Sequence[tuple[int, Appearance]],
    num_unlabelled: int,
    size: tuple[int, int],
    largest: float = LARGEST,
) -> tuple[np.ndarray, list[PersonBox]]:
    """Render an image in which all of ``persons`` are visible enough to be annotated.

    Args:
        rng: Generator of what changes between images: positions and poses of the persons, light, noise.
        place_rng: Generator of what belongs to the place: view, background, props.
        persons: Identity and appearance of the labelled persons.
        num_unlabelled: Number of unlabelled persons to add.
        size: Width and height in pixels.
        largest: Scale of the nearest persons, in image heights a metre.

    Returns:
        Image (h, w, 3) uint8, B G R, and the annotations, nearest first.
    """
    view = sample_view(place_rng, *size)
    place = sample_place(place_rng, view)
    # Bright or dim, bluish to yellowish, from the left or the right.
    warmth = rng.normal(0, 0.09)
    gain = rng.uniform(0.75, 1.2) * np.array([1 - warmth, 1 + rng.normal(0, 0.02), 1 + warmth])
    sideways = rng.choice([-1, 1]) * rng.uniform(0.3, 0.9)
    light = Light((float(sideways), -0.6), gain, float(rng.uniform(0.1, 0.55)))
    props = []
    for kind, x, scale in place.props:
        foot = view.vanishing + x * scale, view.row(scale)
        props.append(Item(paint_prop(kind, place_rng, scale, foot, light.direction), _PROP, scale, foot))
    crowd = [*persons, *((UNLABELLED, sample_appearance(rng)) for _ in range(num_unlabelled))]
    while True:
        items = sorted(props + _place_persons(rng, crowd, place, view, light, largest), key=lambda item: item.scale)
        boxes = annotate(items, view.width, view.height)
        # An image with persons has at least one box, as in the real data sets: readers rely on it.
        if sum(box.identity != UNLABELLED for box in boxes) == len(persons) and (boxes or not crowd):
            break
        # Too crowded: sample the positions again, with one prop less.
        props = props[:-1]
    image = place.background.copy()
    for item in items:
        _cast_shadow(image, item, light)
    for item in items:
        _paste(image, item.sprite)
    return _expose(rng, image, light), boxes


def _place_persons(
    rng: np.random.Generator,
    crowd: Sequence[tuple[int, Appearance]],
    place: Place,
    view: View,
    light: Light,
    largest: float,
) -> list[Item]:
    items: list[Item] = []
    for identity, person in crowd:
        # Between the walls, with the middle of the person in the image.
        scale = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(largest))) * view.height)
        reach = (place.half_width - 0.4) * scale
        left, right = max(0.03 * view.width, view.vanishing - reach), min(0.97 * view.width, view.vanishing + reach)
        x = float(rng.uniform(left, right))
        if items and rng.random() < _IN_COMPANY:
            other = items[rng.integers(len(items))]
            aside = rng.choice([-1, 1]) * rng.uniform(0.3, 0.9) * other.scale
            scale, x = other.scale * rng.uniform(0.92, 1.08), float(other.foot[0] + aside)
        foot = x, view.row(scale)
        pose = sample_pose(rng, tilt=min(0.35, 0.08 * view.camera_height))
        items.append(Item(paint_person(person, pose, scale, foot, light.direction), identity, scale, foot))
    return items


def annotate(items: Sequence[Item], width: int, height: int) -> list[PersonBox]:
    """Boxes of the persons that are visible enough, nearest first; ``items`` has the farthest first.

    A box contains the whole person, hidden parts included, and is clipped to the image.
    """
    free = np.ones((height, width), bool)
    boxes = []
    for item in reversed(items):
        overlap = _overlap(item.sprite, width, height)
        if overlap is None:
            continue
        (rows, columns), part = overlap
        mask = item.sprite.alpha > 0.5
        visible = float((mask[part] & free[rows, columns]).sum() / mask.sum())
        free[rows, columns] &= ~mask[part]
        if item.identity != _PROP and visible >= LEAST_VISIBLE:
            xywh = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
            boxes.append(PersonBox(item.identity, xywh, visible))
    return boxes


def _overlap(sprite: Sprite, width: int, height: int) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """Rows and columns of the image that a sprite covers, and of the sprite that are in the image."""
    rows, columns = sprite.alpha.shape
    left, top = max(sprite.x, 0), max(sprite.y, 0)
    right, bottom = min(sprite.x + columns, width), min(sprite.y + rows, height)
    if left >= right or top >= bottom:
        return None
    part = np.s_[top - sprite.y : bottom - sprite.y, left - sprite.x : right - sprite.x]
    return np.s_[top:bottom, left:right], part


def _paste(image: np.ndarray, sprite: Sprite) -> None:
    overlap = _overlap(sprite, image.shape[1], image.shape[0])
    if overlap is not None:
        area, part = overlap
        image[area] = image[area] * (1 - sprite.alpha[part][..., None]) + sprite.colour[part]


def _cast_shadow(image: np.ndarray, item: Item, light: Light) -> None:
    """Darken the ground with the sprite, sheared flat away from the light, and at its foot."""
    sprite = item.sprite
    rows, columns = sprite.alpha.shape
    margin, height = int(0.6 * rows), int(_FLAT * rows) + 12
    lean = -0.5 * light.direction[0]
    foot = item.foot[0] - sprite.x, item.foot[1] - sprite.y  # in the sprite
    ground = height - 8  # row of the foot in the image of the shadow
    warp = np.float32([[1, -lean, margin + lean * foot[1]], [0, _FLAT, ground - _FLAT * foot[1]]])
    shadow = cv2.warpAffine(sprite.alpha, warp, (columns + 2 * margin, height))
    contact = round(foot[0]) + margin, ground
    cv2.ellipse(shadow, contact, (round(0.26 * item.scale), round(0.07 * item.scale)), 0, 0, 360, 1.0, -1)
    shadow = cv2.GaussianBlur(shadow, (0, 0), max(1.0, item.scale * 0.03)) * light.shadow
    black = np.zeros((*shadow.shape, 3), np.float32)
    _paste(image, Sprite(black, shadow, sprite.x - margin, round(item.foot[1]) - ground))


def _expose(rng: np.random.Generator, image: np.ndarray, light: Light) -> np.ndarray:
    """Apply the camera: blur, saturation, light, vignette and noise; (h, w, 3) float32 to uint8."""
    height, width = image.shape[:2]
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.35, 0.9) * height / 300)
    grey = image.mean(2, keepdims=True)
    image = (grey + rng.uniform(0.7, 1.0) * (image - grey)) * np.float32(light.gain)
    columns, rows = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    vignette = 1 - rng.uniform(0.02, 0.16) * (columns[None, :] ** 2 + rows[:, None] ** 2)
    image *= vignette[..., None]
    image += rng.uniform(1.5, 5) * crop(grain(), rng, width, height)
    return np.clip(image, 0, 255).astype(np.uint8)
