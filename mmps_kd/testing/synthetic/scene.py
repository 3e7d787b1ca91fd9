"""Composing an image: people and things placed in a view, nearer ones over farther ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .appearance import Appearance, sample_appearance
from .camera import LARGEST, SMALLEST, Light, View, expose, sample_light, sample_view
from .canvas import Sprite
from .figure import paint_figure
from .place import Place, make_place
from .plan import PersonBox
from .pose import sample_pose
from .props import paint_prop

UNLABELLED = -1
LEAST_VISIBLE = 0.4  # people of whom less is seen are not annotated
_THING = -2  # stands where a person's identity would
_IN_COMPANY = 0.3  # share of people who walk beside somebody
_FLAT = 0.28  # length of a shadow, in heights of what casts it


@dataclass(frozen=True)
class Standing:
    """A sprite in the scene, with whom it shows, its scale (pixels a metre) and its foot in the image."""

    sprite: Sprite
    identity: int
    scale: float
    foot: tuple[float, float]


def render_scene(
    rng: np.random.Generator,
    site: np.random.Generator,
    people: Sequence[tuple[int, Appearance]],
    passers_by: int,
    size: tuple[int, int],
) -> tuple[np.ndarray, list[PersonBox]]:
    """Render an image in which every one of ``people`` can be seen well enough to be annotated.

    Args:
        rng: Of what changes from image to image: people's places and poses, light, noise.
        site: Of what belongs to the place: view, background, things standing about.
        people: Labelled people to be shown: identity and appearance.
        passers_by: Number of unlabelled people to add.
        size: Width and height in pixels.

    Returns:
        Picture (h, w, 3) uint8, B G R, and the annotated people, those in front first.
    """
    view = sample_view(site, *size)
    place = make_place(site, view)
    light = sample_light(rng)
    props = _things(site, place, view, light)
    crowd = [*people, *((UNLABELLED, sample_appearance(rng)) for _ in range(passers_by))]
    while True:
        standing = sorted(props + _figures(rng, crowd, place, view, light), key=lambda item: item.scale)
        boxes = annotate(standing, view)
        # An image with a crowd has at least one box, as every image of the real datasets: readers rely on it.
        if sum(box.identity != UNLABELLED for box in boxes) == len(people) and (boxes or not crowd):
            break
        # Too crowded: try again, with one thing less in the way.
        props = props[:-1]
    scene = place.background.copy()
    for item in standing:
        _cast_shadow(scene, item, light)
    for item in standing:
        _put(scene, item.sprite)
    return expose(rng, scene, light), boxes


def _things(rng: np.random.Generator, place: Place, view: View, light: Light) -> list[Standing]:
    items = []
    for kind, x, scale in place.props:
        foot = view.vanishing + x * scale, view.row(scale)
        sprite = paint_prop(kind, rng, scale, foot, light.direction)
        items.append(Standing(sprite, _THING, scale, foot))
    return items


def _figures(
    rng: np.random.Generator, crowd: Sequence[tuple[int, Appearance]], place: Place, view: View, light: Light
) -> list[Standing]:
    items: list[Standing] = []
    for identity, person in crowd:
        scale, x = _free_spot(rng, place, view)
        if items and rng.random() < _IN_COMPANY:
            other = items[rng.integers(len(items))]
            aside = rng.choice([-1, 1]) * rng.uniform(0.3, 0.9) * other.scale
            scale, x = other.scale * rng.uniform(0.92, 1.08), other.foot[0] + aside
        foot = float(x), view.row(scale)
        sprite = paint_figure(person, sample_pose(rng, view.tilt), scale, foot, light.direction)
        items.append(Standing(sprite, identity, scale, foot))
    return items


def _free_spot(rng: np.random.Generator, place: Place, view: View) -> tuple[float, float]:
    """Scale and column of a place to stand at, between the walls and with the middle of the person in the image."""
    scale = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST))) * view.height)
    reach = (place.half_width - 0.4) * scale
    left, right = max(0.03 * view.width, view.vanishing - reach), min(0.97 * view.width, view.vanishing + reach)
    return scale, float(rng.uniform(left, right))


def annotate(standing: Sequence[Standing], view: View) -> list[PersonBox]:
    """Boxes of the people who are seen well enough, nearest first."""
    free = np.ones((view.height, view.width), bool)
    boxes = []
    for item in reversed(standing):
        inside = _overlap(item.sprite, view.width, view.height)
        if inside is None:
            continue
        area, part = inside
        shape = item.sprite.alpha > 0.5
        visible = float((shape[part] & free[area]).sum() / shape.sum())
        free[area] &= ~shape[part]
        if item.identity != _THING and visible >= LEAST_VISIBLE:
            rows, columns = area
            xywh = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
            boxes.append(PersonBox(item.identity, xywh, visible))
    return boxes


def _overlap(sprite: Sprite, width: int, height: int) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """Rows and columns of the image that a sprite covers, and of the sprite that lie in the image."""
    rows, columns = sprite.alpha.shape
    left, top = max(sprite.x, 0), max(sprite.y, 0)
    right, bottom = min(sprite.x + columns, width), min(sprite.y + rows, height)
    if left >= right or top >= bottom:
        return None
    part = np.s_[top - sprite.y : bottom - sprite.y, left - sprite.x : right - sprite.x]
    return np.s_[top:bottom, left:right], part


def _put(scene: np.ndarray, sprite: Sprite) -> None:
    inside = _overlap(sprite, scene.shape[1], scene.shape[0])
    if inside is not None:
        area, part = inside
        scene[area] = scene[area] * (1 - sprite.alpha[part][..., None]) + sprite.colour[part]


def _cast_shadow(scene: np.ndarray, item: Standing, light: Light) -> None:
    """Darken the ground with the sprite, laid flat away from the light, and where it stands."""
    sprite, soft = item.sprite, max(1.0, item.scale * 0.03)
    rows, columns = sprite.alpha.shape
    margin, height = int(0.6 * rows), int(_FLAT * rows) + 12
    lean = -0.5 * light.direction[0]
    foot = item.foot[0] - sprite.x, item.foot[1] - sprite.y  # in the sprite
    ground = height - 8  # row of the foot in the shadow's picture
    warp = np.float32([[1, -lean, margin + lean * foot[1]], [0, _FLAT, ground - _FLAT * foot[1]]])
    shadow = cv2.warpAffine(sprite.alpha, warp, (columns + 2 * margin, height))
    contact = round(foot[0]) + margin, ground
    cv2.ellipse(shadow, contact, (round(0.26 * item.scale), round(0.07 * item.scale)), 0, 0, 360, 1.0, -1)
    shadow = cv2.GaussianBlur(shadow, (0, 0), soft) * light.shadow
    black = np.zeros((*shadow.shape, 3), np.float32)
    _put(scene, Sprite(black, shadow, sprite.x - margin, round(item.foot[1]) - ground))
