"""House fronts and halls."""

import cv2
import numpy as np

from .camera import View
from .textures import cloudy, crop

_WALLS = (
    (150, 165, 180),
    (120, 140, 165),
    (95, 105, 140),
    (175, 180, 182),
    (130, 130, 128),
    (160, 180, 195),
    (90, 110, 125),
)
_SIGNS = ((50, 50, 190), (170, 90, 40), (60, 150, 210), (70, 130, 60), (235, 235, 235), (40, 40, 45), (150, 70, 120))
_GLASS = ((95, 80, 70), (120, 105, 90), (75, 70, 68), (150, 140, 125))
_SIZE = 384, 288  # pixels of a painted wall


def paint_trees(rng: np.random.Generator, image: np.ndarray, view: View) -> None:
    """Paint the trees that close the view of a park."""
    foot = round(view.row(0.05 * view.height))
    outline = crop(cloudy(), rng, view.width, 1, 0.7)[0]
    tops = foot - view.height * np.clip(rng.uniform(0.15, 0.3) + 0.06 * outline, 0.05, None)
    rows = np.arange(foot)[:, None]
    leaves = crop(cloudy(), rng, view.width, foot, 0.4) + crop(cloudy(), rng, view.width, foot, 0.15)
    green = np.float32((70, 105, 85)) * rng.uniform(0.6, 1.1)
    crowns = green * (1 + 0.16 * leaves - 0.4 * (rows / foot) ** 4)[..., None]
    image[:foot] = np.where((rows > tops + 3 * leaves)[..., None], crowns, image[:foot])


def paint_walls(rng: np.random.Generator, image: np.ndarray, view: View, indoors: bool, corridor: float) -> None:
    """Paint the wall that closes the view and, ``corridor`` metres wide, the walls on both sides."""
    storeys = 1 if indoors else int(rng.integers(2, 5))
    height = 3.6 * storeys
    far = rng.uniform(0.045, 0.085) * view.height  # scale at the wall
    half = corridor / 2 if np.isfinite(corridor) else view.width / far
    front = _quad(view, (-half, half), (far, far), height)
    _hang(image, _house(rng, storeys, indoors), front)
    if np.isfinite(corridor):
        near = view.width / half  # a scale at which the wall is outside the image
        for side in (-half, half):
            _hang(image, _house(rng, storeys, indoors), _quad(view, (side, side), (near, far), height))


def _quad(view: View, x: tuple[float, float], scale: tuple[float, float], height: float) -> np.ndarray:
    """Image corners (4, 2) of an upright rectangle: top first end, top second end, bottom second, bottom first."""
    columns = [view.vanishing + metres * s for metres, s in zip(x, scale, strict=True)]
    bottoms = [view.row(s) for s in scale]
    tops = [bottom - height * s for bottom, s in zip(bottoms, scale, strict=True)]
    corners = [(columns[0], tops[0]), (columns[1], tops[1]), (columns[1], bottoms[1]), (columns[0], bottoms[0])]
    return np.float32(corners)


def _hang(image: np.ndarray, wall: np.ndarray, quad: np.ndarray) -> None:
    height, width = wall.shape[:2]
    corners = np.float32([(0, 0), (width, 0), (width, height), (0, height)])
    warp = cv2.getPerspectiveTransform(corners, quad)
    size = image.shape[1::-1]
    cv2.warpPerspective(wall, warp, size, dst=image, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT)


def _house(rng: np.random.Generator, storeys: int, indoors: bool) -> np.ndarray:
    width, height = _SIZE
    base = np.float32(_WALLS[rng.integers(len(_WALLS))]) * (1.15 if indoors else 1.0)
    wall = base * (1 + 0.05 * crop(cloudy(), rng, width, height))[..., None]
    storey = height // storeys
    columns = int(rng.integers(4, 9)) if not indoors else int(rng.integers(3, 6))
    for floor in range(storeys - 1):
        _windows(rng, wall, floor * storey, storey, columns)
    _shops(rng, wall, height - storey, columns)
    return np.clip(wall, 0, 255).astype(np.float32)


def _windows(rng: np.random.Generator, wall: np.ndarray, top: int, storey: int, columns: int) -> None:
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


def _shops(rng: np.random.Generator, wall: np.ndarray, top: int, columns: int) -> None:
    height, width = wall.shape[:2]
    edges = np.linspace(0, width, max(2, columns // 2) + 1).astype(int)
    for left, right in zip(edges[:-1], edges[1:], strict=True):
        sign = np.array(_SIGNS[rng.integers(len(_SIGNS))], float)
        glass = np.array(_GLASS[rng.integers(len(_GLASS))], float) * rng.uniform(0.7, 1.9)
        head = int(top + 0.22 * (height - top))
        cv2.rectangle(wall, (left + 4, head), (right - 4, height - 8), glass.tolist(), -1)
        _goods(rng, wall, (left + 6, head + 10, right - 6, height - 10))
        cv2.rectangle(wall, (left + 2, top + 3), (right - 2, head), sign.tolist(), -1)
        _lettering(rng, wall, (left + 12, top + 8, right - 12, head - 5), 255 - sign.mean())
        door = int(rng.integers(left + 8, max(left + 9, right - 34)))
        cv2.rectangle(wall, (door, head + 8), (door + 26, height), (glass * 0.55).tolist(), -1)
        cv2.rectangle(wall, (door, head + 8), (door + 26, height), (sign * 0.6).tolist(), 2)


def _goods(rng: np.random.Generator, wall: np.ndarray, area: tuple[int, int, int, int]) -> None:
    """Things behind a shop window, out of focus."""
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


def _lettering(rng: np.random.Generator, wall: np.ndarray, area: tuple[int, int, int, int], tone: float) -> None:
    left, top, right, bottom = area
    x = left
    while x < right - 6:
        width = int(rng.integers(3, 9))
        cv2.rectangle(wall, (x, top + int(rng.integers(0, 4))), (x + width, bottom), (tone,) * 3, 2)
        x += width + 5
