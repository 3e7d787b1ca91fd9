"""The ground: paving, asphalt or grass in perspective."""

import numpy as np

from .camera import View
from .textures import SIDE, cloudy, grain

Colour = np.ndarray
_SURFACES = {  # colour B, G, R; side of the paving slabs in metres (0: none); roughness
    'slabs': ((150, 155, 160), 0.9, 5),
    'small slabs': ((135, 142, 152), 0.45, 6),
    'red paving': ((105, 115, 150), 0.5, 7),
    'tiles': ((190, 198, 205), 1.2, 2),
    'asphalt': ((105, 103, 102), 0, 7),
    'grass': ((60, 115, 95), 0, 14),
    'earth': ((110, 135, 155), 0, 9),
}


def paint_ground(rng: np.random.Generator, image: np.ndarray, view: View, surfaces: tuple[str, ...]) -> None:
    """Paint everything below the horizon of ``image`` (h, w, 3) float32: one surface, or a lane of a second one."""
    top = max(int(view.horizon) + 2, 0)
    rows = np.arange(top, view.height, dtype=np.float32)[:, None]
    scale = (rows - view.horizon) / view.camera_height  # pixels a metre
    x = (np.arange(view.width, dtype=np.float32)[None, :] - view.vanishing) / scale  # metres
    z = np.broadcast_to(0.9 * view.width / scale, x.shape)
    ground = _surface(rng, surfaces[0], x, z, scale)
    if len(surfaces) > 1:
        ground = _lane(rng, ground, surfaces[1], x, z, scale)
    haze = np.clip(1 - scale / (0.12 * view.height), 0, 1)[..., None] * 0.35
    image[top:] = ground * (1 - haze) + np.float32((175, 172, 168)) * haze


def _surface(rng: np.random.Generator, name: str, x: np.ndarray, z: np.ndarray, scale: np.ndarray) -> Colour:
    colour, slab, roughness = _SURFACES[name]
    colour = np.float32(colour) * rng.uniform(0.85, 1.12)
    wear = cloudy()[(z * 30).astype(int) % SIDE, (x * 30).astype(int) % SIDE]
    fine = grain()[(z * 70).astype(int) % SIDE, (x * 70).astype(int) % SIDE, 0]
    value = 1 + 0.05 * wear + 0.01 * roughness * fine * np.clip(scale / 60, 0.3, 1)
    if slab:
        value *= _paving(rng, slab, x, z, scale)
    return colour * value[..., None]


def _paving(rng: np.random.Generator, slab: float, x: np.ndarray, z: np.ndarray, scale: np.ndarray) -> np.ndarray:
    column, row = np.floor(x / slab).astype(int), np.floor(z / slab).astype(int)
    tone = 1 + rng.uniform(0.01, 0.06) * grain()[row % SIDE, column % SIDE, 1]
    across, along = np.mod(x, slab), np.mod(z, slab)
    width = np.maximum(0.018, 0.7 / scale)
    joint = (across < width) | (along < width * 2)
    return tone * (1 - 0.22 * joint * np.clip(scale * slab / 30, 0, 1))


def _lane(
    rng: np.random.Generator, ground: Colour, name: str, x: np.ndarray, z: np.ndarray, scale: np.ndarray
) -> Colour:
    """A lane along the view from ``left`` metres on, with a kerb, and a dashed line if it is a road."""
    left, width = rng.uniform(-4, 2), rng.uniform(2.5, 7)
    inside = (x > left) & (x < left + width)
    ground = np.where(inside[..., None], _surface(rng, name, x, z, scale), ground)
    kerb = (np.abs(x - left) < 0.09) | (np.abs(x - left - width) < 0.09)
    ground = np.where(kerb[..., None], np.float32((175, 178, 180)), ground)
    if name == 'asphalt':
        dashes = (np.abs(x - left - width / 2) < 0.06) & (np.mod(z, 4) < 2.2)
        ground = np.where(dashes[..., None], np.float32((215, 220, 222)), ground)
    return ground
