"""A place: its background and what stands about in it."""

from dataclasses import dataclass

import numpy as np

from .camera import LARGEST, SMALLEST, View
from .ground import paint_ground
from .textures import cloudy, crop
from .walls import paint_trees, paint_walls


@dataclass(frozen=True)
class Kind:
    """A kind of place: the grounds it may have, what may stand about, what closes the view, its width in metres."""

    grounds: tuple[tuple[str, ...], ...]
    props: tuple[str, ...]
    closed_by: str  # houses, trees, or the walls of a hall
    corridor: tuple[float, float] | None  # None: no walls on the sides


KINDS = (
    Kind(
        grounds=(('slabs', 'asphalt'), ('small slabs', 'asphalt'), ('red paving', 'asphalt')),
        props=('car', 'lamp', 'tree', 'bin', 'bicycle', 'bollard'),
        closed_by='houses',
        corridor=(10, 18),
    ),
    Kind(
        grounds=(('slabs',), ('small slabs', 'red paving'), ('red paving',)),
        props=('planter', 'lamp', 'bin', 'stand', 'bicycle'),
        closed_by='houses',
        corridor=(8, 14),
    ),
    Kind(
        grounds=(('grass', 'slabs'), ('grass', 'earth'), ('grass', 'asphalt')),
        props=('tree', 'tree', 'lamp', 'bin', 'bicycle'),
        closed_by='trees',
        corridor=None,
    ),
    Kind(
        grounds=(('asphalt',), ('slabs',), ('asphalt', 'slabs')),
        props=('car', 'car', 'tree', 'lamp', 'bollard', 'bicycle'),
        closed_by='houses',
        corridor=None,
    ),
    Kind(
        grounds=(('tiles',), ('tiles', 'small slabs')),
        props=('pillar', 'stand', 'planter', 'bin'),
        closed_by='hall',
        corridor=(7, 12),
    ),
)


@dataclass(frozen=True)
class Place:
    """Background (h, w, 3) float32, half the free width in metres, and props: kind, metres to the right, scale."""

    background: np.ndarray
    half_width: float
    props: tuple[tuple[str, float, float], ...]


def make_place(rng: np.random.Generator, view: View) -> Place:
    """Draw a place and paint its background."""
    kind = KINDS[rng.integers(len(KINDS))]
    corridor = float(rng.uniform(*kind.corridor)) if kind.corridor else np.inf
    indoors = kind.closed_by == 'hall'
    image = _sky(rng, view, indoors)
    paint_ground(rng, image, view, kind.grounds[rng.integers(len(kind.grounds))])
    if kind.closed_by == 'trees':
        paint_trees(rng, image, view)
    else:
        paint_walls(rng, image, view, indoors, corridor)
    half = min(corridor / 2, 12.0)
    props = tuple(
        (kind.props[rng.integers(len(kind.props))], float(rng.uniform(-half, half)), _scale(rng, view))
        for _ in range(rng.integers(2, 6))
    )
    return Place(image, half, props)


def _scale(rng: np.random.Generator, view: View) -> float:
    return float(np.exp(rng.uniform(np.log(SMALLEST * 0.7), np.log(LARGEST))) * view.height)


def _sky(rng: np.random.Generator, view: View, indoors: bool) -> np.ndarray:
    rows = np.linspace(0, 1, view.height, dtype=np.float32)[:, None, None]
    if indoors:
        return np.broadcast_to(np.float32((205, 212, 215)) * (1 - 0.3 * rows), (view.height, view.width, 3)).copy()
    high, low = np.float32((215, 175, 130)), np.float32((225, 222, 215))
    clouds = np.clip(0.5 + 0.5 * crop(cloudy(), rng, view.width, view.height, 1.5), 0, 1)[..., None]
    grey = rng.uniform(0, 1)
    sky = high + (low - high) * np.clip(rows * 2, 0, 1)
    return (sky + (low - sky) * np.clip(clouds * 0.6 + grey * 0.6, 0, 1)).astype(np.float32)
