"""The background of an image: perspective, sky, ground and walls of a sampled place."""

from typing import NamedTuple

import cv2
import numpy as np

from .canvas import TEXTURE_SIZE, cloudy, crop, grain

SMALLEST, LARGEST = 0.115, 0.33  # scale of the farthest and the nearest persons: image heights a metre

_SURFACES = {  # colour B, G, R; side of the paving slabs in metres (0: none); roughness
    'slabs': ((150, 155, 160), 0.9, 5),
    'small slabs': ((135, 142, 152), 0.45, 6),
    'red paving': ((105, 115, 150), 0.5, 7),
    'tiles': ((190, 198, 205), 1.2, 2),
    'asphalt': ((105, 103, 102), 0, 7),
    'grass': ((60, 115, 95), 0, 14),
    'earth': ((110, 135, 155), 0, 9),
}
# fmt: off
_WALLS = (
    (150, 165, 180), (120, 140, 165), (95, 105, 140), (175, 180, 182), (130, 130, 128), (160, 180, 195), (90, 110, 125),
)
# fmt: on
_SIGNS = ((50, 50, 190), (170, 90, 40), (60, 150, 210), (70, 130, 60), (235, 235, 235), (40, 40, 45), (150, 70, 120))
_GLASS = ((95, 80, 70), (120, 105, 90), (75, 70, 68), (150, 140, 125))
_WALL_SIZE = 384, 288  # pixels of a painted wall


class View(NamedTuple):
    """Perspective over flat ground: at image row y, a metre is ``(y - horizon) / camera_height`` pixels."""

    width: int
    height: int
    horizon: float  # row
    vanishing: float  # column of the vanishing point
    camera_height: float  # metres

    def row(self, scale: float) -> float:
        """Image row of the ground where a metre is ``scale`` pixels."""
        return self.horizon + scale * self.camera_height


class Kind(NamedTuple):
    """A kind of place."""

    grounds: tuple[tuple[str, ...], ...]  # one surface, or two: the second is a lane
    props: tuple[str, ...]
    closed_by: str  # 'houses', 'trees' or the walls of a 'hall'
    corridor: tuple[float, float] | None  # range in metres between the walls on both sides; None: no such walls


class Place(NamedTuple):
    """A sampled place without its props and persons."""

    background: np.ndarray  # (h, w, 3) float32
    half_width: float  # metres to either side that persons and props may stand at
    props: list[tuple[str, float, float]]  # kind, metres to the right, scale in pixels a metre


KINDS = (
    Kind(
        (('slabs', 'asphalt'), ('small slabs', 'asphalt'), ('red paving', 'asphalt')),
        ('car', 'lamp', 'tree', 'bin', 'bicycle', 'bollard'),
        'houses',
        (10, 18),
    ),
    Kind(
        (('slabs',), ('small slabs', 'red paving'), ('red paving',)),
        ('planter', 'lamp', 'bin', 'stand', 'bicycle'),
        'houses',
        (8, 14),
    ),
    Kind(
        (('grass', 'slabs'), ('grass', 'earth'), ('grass', 'asphalt')),
        ('tree', 'tree', 'lamp', 'bin', 'bicycle'),
        'trees',
        None,
    ),
    Kind(
        (('asphalt',), ('slabs',), ('asphalt', 'slabs')),
        ('car', 'car', 'tree', 'lamp', 'bollard', 'bicycle'),
        'houses',
        None,
    ),
    Kind((('tiles',), ('tiles', 'small slabs')), ('pillar', 'stand', 'planter', 'bin'), 'hall', (7, 12)),
)


def sample_view(rng: np.random.Generator, width: int, height: int) -> View:
    """Sample a view in which persons of the largest scale stand near the lower edge of the image."""
    horizon = rng.uniform(0.08, 0.42)
    camera_height = (rng.uniform(0.88, 1.08) - horizon) / LARGEST
    vanishing = rng.uniform(0.2, 0.8)
    return View(width, height, horizon * height, vanishing * width, camera_height)


def sample_place(rng: np.random.Generator, view: View) -> Place:
    """Sample a place and paint its background."""
    kind = KINDS[rng.integers(len(KINDS))]
    corridor = float(rng.uniform(*kind.corridor)) if kind.corridor else np.inf
    indoors = kind.closed_by == 'hall'
    image = _sky(rng, view, indoors)
    _paint_ground(rng, image, view, kind.grounds[rng.integers(len(kind.grounds))])
    if kind.closed_by == 'trees':
        _paint_trees(rng, image, view)
    else:
        _paint_walls(rng, image, view, indoors, corridor)
    half, props = min(corridor / 2, 12.0), []
    for _ in range(rng.integers(2, 6)):
        name, x = kind.props[rng.integers(len(kind.props))], float(rng.uniform(-half, half))
        props.append((name, x, float(np.exp(rng.uniform(np.log(SMALLEST * 0.7), np.log(LARGEST))) * view.height)))
    return Place(image, half, props)


def _sky(rng: np.random.Generator, view: View, indoors: bool) -> np.ndarray:
    """An image (h, w, 3) float32 of clouded sky, or of a hall's ceiling."""
    rows = np.linspace(0, 1, view.height, dtype=np.float32)[:, None, None]
    if indoors:
        return np.broadcast_to(np.float32((205, 212, 215)) * (1 - 0.3 * rows), (view.height, view.width, 3)).copy()
    high, low = np.float32((215, 175, 130)), np.float32((225, 222, 215))
    clouds = np.clip(0.5 + 0.5 * crop(cloudy(), rng, view.width, view.height, 1.5), 0, 1)[..., None]
    grey = rng.uniform(0, 1)
    sky = high + (low - high) * np.clip(rows * 2, 0, 1)
    return (sky + (low - sky) * np.clip(clouds * 0.6 + grey * 0.6, 0, 1)).astype(np.float32)


def _paint_ground(rng: np.random.Generator, image: np.ndarray, view: View, surfaces: tuple[str, ...]) -> None:
    """Paint everything below the horizon of ``image`` (h, w, 3) float32."""
    top = max(int(view.horizon) + 2, 0)
    rows = np.arange(top, view.height, dtype=np.float32)[:, None]
    # Position of every pixel on the ground: x to the right and z away from the camera, in metres.
    scale = (rows - view.horizon) / view.camera_height  # pixels a metre
    x = (np.arange(view.width, dtype=np.float32)[None, :] - view.vanishing) / scale
    z = np.broadcast_to(0.9 * view.width / scale, x.shape)
    ground = _surface(rng, surfaces[0], x, z, scale)
    if len(surfaces) > 1:
        # A lane along the view, with a kerb, and a dashed line if it is a road.
        left, width = rng.uniform(-4, 2), rng.uniform(2.5, 7)
        inside = (x > left) & (x < left + width)
        ground = np.where(inside[..., None], _surface(rng, surfaces[1], x, z, scale), ground)
        kerb = (np.abs(x - left) < 0.09) | (np.abs(x - left - width) < 0.09)
        ground = np.where(kerb[..., None], np.float32((175, 178, 180)), ground)
        if surfaces[1] == 'asphalt':
            dashes = (np.abs(x - left - width / 2) < 0.06) & (np.mod(z, 4) < 2.2)
            ground = np.where(dashes[..., None], np.float32((215, 220, 222)), ground)
    haze = np.clip(1 - scale / (0.12 * view.height), 0, 1)[..., None] * 0.35
    image[top:] = ground * (1 - haze) + np.float32((175, 172, 168)) * haze


def _surface(rng: np.random.Generator, name: str, x: np.ndarray, z: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Colour (h, w, 3) of ground positions in metres."""
    colour, slab, roughness = _SURFACES[name]
    colour = np.float32(colour) * rng.uniform(0.85, 1.12)
    wear = cloudy()[(z * 30).astype(int) % TEXTURE_SIZE, (x * 30).astype(int) % TEXTURE_SIZE]
    fine = grain()[(z * 70).astype(int) % TEXTURE_SIZE, (x * 70).astype(int) % TEXTURE_SIZE, 0]
    value = 1 + 0.05 * wear + 0.01 * roughness * fine * np.clip(scale / 60, 0.3, 1)
    if slab:
        # Each slab has its own tone. The joints are at least a fraction of a pixel wide and fade in the distance.
        column, row = np.floor(x / slab).astype(int), np.floor(z / slab).astype(int)
        tone = 1 + rng.uniform(0.01, 0.06) * grain()[row % TEXTURE_SIZE, column % TEXTURE_SIZE, 1]
        width = np.maximum(0.018, 0.7 / scale)
        joint = (np.mod(x, slab) < width) | (np.mod(z, slab) < width * 2)
        value *= tone * (1 - 0.22 * joint * np.clip(scale * slab / 30, 0, 1))
    return colour * value[..., None]


def _paint_trees(rng: np.random.Generator, image: np.ndarray, view: View) -> None:
    """Paint the trees at the end of a park."""
    foot = round(view.row(0.05 * view.height))
    outline = crop(cloudy(), rng, view.width, 1, 0.7)[0]
    tops = foot - view.height * np.clip(rng.uniform(0.15, 0.3) + 0.06 * outline, 0.05, None)
    rows = np.arange(foot)[:, None]
    leaves = crop(cloudy(), rng, view.width, foot, 0.4) + crop(cloudy(), rng, view.width, foot, 0.15)
    green = np.float32((70, 105, 85)) * rng.uniform(0.6, 1.1)
    crowns = green * (1 + 0.16 * leaves - 0.4 * (rows / foot) ** 4)[..., None]
    image[:foot] = np.where((rows > tops + 3 * leaves)[..., None], crowns, image[:foot])


def _paint_walls(rng: np.random.Generator, image: np.ndarray, view: View, indoors: bool, corridor: float) -> None:
    """Paint the wall at the end and, ``corridor`` metres apart unless infinite, the walls on both sides."""
    storeys = 1 if indoors else int(rng.integers(2, 5))
    far = rng.uniform(0.045, 0.085) * view.height  # scale at the end
    half = corridor / 2 if np.isfinite(corridor) else view.width / far
    near = view.width / half  # a scale at which the side walls are outside the image
    ends = [((-half, far), (half, far))]  # metres to the right and scale at both ends of each wall
    if np.isfinite(corridor):
        ends += [((side, near), (side, far)) for side in (-half, half)]
    for first, second in ends:
        wall = _wall(rng, storeys, indoors)
        height, width = wall.shape[:2]
        corners = np.float32([(0, 0), (width, 0), (width, height), (0, height)])
        (left, left_top, left_foot), (right, right_top, right_foot) = (
            (view.vanishing + x * scale, view.row(scale) - 3.6 * storeys * scale, view.row(scale))
            for x, scale in (first, second)
        )
        seen = np.float32([(left, left_top), (right, right_top), (right, right_foot), (left, left_foot)])
        warp, size = cv2.getPerspectiveTransform(corners, seen), image.shape[1::-1]
        cv2.warpPerspective(wall, warp, size, dst=image, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT)


def _wall(rng: np.random.Generator, storeys: int, indoors: bool) -> np.ndarray:
    """A house front (h, w, 3) float32: windows, and shops on the ground floor."""
    width, height = _WALL_SIZE
    base = np.float32(_WALLS[rng.integers(len(_WALLS))]) * (1.15 if indoors else 1.0)
    wall = base * (1 + 0.05 * crop(cloudy(), rng, width, height))[..., None]
    storey = height // storeys
    columns = int(rng.integers(3, 6) if indoors else rng.integers(4, 9))
    for floor in range(storeys - 1):
        _paint_windows(rng, wall, floor * storey, storey, columns)
    _paint_shops(rng, wall, height - storey, columns)
    return np.clip(wall, 0, 255).astype(np.float32)


def _paint_windows(rng: np.random.Generator, wall: np.ndarray, top: int, storey: int, columns: int) -> None:
    pitch = wall.shape[1] / columns
    wide, high = rng.uniform(0.35, 0.8) * pitch, rng.uniform(0.45, 0.7) * storey
    glass, frame = np.float32(_GLASS[rng.integers(len(_GLASS))]), float(rng.uniform(70, 230))
    for column in range(columns):
        x, y = int((column + 0.5) * pitch - wide / 2), int(top + 0.2 * storey)
        right, bottom = int(x + wide), int(y + high)
        tone = glass * rng.choice([0.7, 0.9, 1.1, 1.7])
        cv2.rectangle(wall, (x - 2, y - 2), (right + 2, bottom + 2), (frame,) * 3, -1)
        cv2.rectangle(wall, (x, y), (right, bottom), tone.tolist(), -1)
        cv2.line(wall, ((x + right) // 2, y), ((x + right) // 2, bottom), (frame * 0.8,) * 3, 2)
        cv2.line(wall, (x - 4, bottom + 4), (right + 4, bottom + 4), (frame * 0.6,) * 3, 2)
    cv2.line(wall, (0, top), (wall.shape[1], top), (float(wall[top, 0, 0]) * 0.75,) * 3, 3)


def _paint_shops(rng: np.random.Generator, wall: np.ndarray, top: int, columns: int) -> None:
    height, width = wall.shape[:2]
    edges = np.linspace(0, width, max(2, columns // 2) + 1).astype(int)
    head = int(top + 0.22 * (height - top))
    for left, right in zip(edges[:-1], edges[1:], strict=True):
        sign = np.array(_SIGNS[rng.integers(len(_SIGNS))], float)
        glass = np.array(_GLASS[rng.integers(len(_GLASS))], float) * rng.uniform(0.7, 1.9)
        cv2.rectangle(wall, (left + 4, head), (right - 4, height - 8), glass.tolist(), -1)
        _paint_goods(rng, wall, (left + 6, head + 10, right - 6, height - 10))
        cv2.rectangle(wall, (left + 2, top + 3), (right - 2, head), sign.tolist(), -1)
        x, tone = left + 12, 255 - sign.mean()
        while x < right - 18:  # the letters of the sign
            letter = int(rng.integers(3, 9))
            cv2.rectangle(wall, (x, top + 8 + int(rng.integers(0, 4))), (x + letter, head - 5), (tone,) * 3, 2)
            x += letter + 5
        door = int(rng.integers(left + 8, max(left + 9, right - 34)))
        cv2.rectangle(wall, (door, head + 8), (door + 26, height), (glass * 0.55).tolist(), -1)
        cv2.rectangle(wall, (door, head + 8), (door + 26, height), (sign * 0.6).tolist(), 2)


def _paint_goods(rng: np.random.Generator, wall: np.ndarray, area: tuple[int, int, int, int]) -> None:
    """Paint the goods behind a shop window, out of focus."""
    left, top, right, bottom = area
    for _ in range(14):
        x, y = rng.integers(left, max(left + 1, right - 8)), rng.integers(top, max(top + 1, bottom - 12))
        size = rng.integers(6, 26, 2)
        colour = np.array(_SIGNS[rng.integers(len(_SIGNS))]) * rng.uniform(0.4, 0.9)
        corner = int(min(x + size[0], right)), int(min(y + size[1], bottom))
        cv2.rectangle(wall, (int(x), int(y)), corner, colour.tolist(), -1)
    window = wall[top:bottom, left:right]
    window[:] = (
        cv2.GaussianBlur(window, (0, 0), 4) * (1 + 0.12 * crop(cloudy(), rng, right - left, bottom - top))[..., None]
    )
