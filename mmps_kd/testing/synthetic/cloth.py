"""Cloth: patterns and folds."""

from collections.abc import Callable

import numpy as np

from .appearance import Appearance, Colour
from .textures import SIDE, cloudy

_FOLDS = 0.10  # strength
_STRIPE = 0.052  # period in body heights


def shade(colour: Colour, factor: float) -> Colour:
    """A darker (factor below 1) or lighter colour."""
    return tuple(channel * factor for channel in colour)


class Cloth:
    """Paint of a person's top: a function of canvas columns and rows."""

    def __init__(self, person: Appearance, x: float, y: float, unit: float, facing: float, turned: float) -> None:
        self.person = person
        self.x, self.y, self.unit = x, y, unit  # middle of the chest at shoulder height; pixels of a body height
        self.facing, self.turned = facing, turned

    def __call__(self, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Colour (h, w, 3) of pixels."""
        across = ((columns - self.x) / self.unit + 0.05 * self.turned)[None, :]
        down = ((rows - self.y) / self.unit)[:, None]
        second = PATTERN_MASKS[self.person.pattern](across, down, self.facing)[..., None]
        colour = np.where(second, np.float32(self.person.second), np.float32(self.person.top))
        return colour * self._folds(columns, rows)

    def plain(self, colour: Colour) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """Paint of the same cloth in one colour."""
        return lambda columns, rows: np.float32(colour) * self._folds(columns, rows)

    def _folds(self, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        across = (columns * (300 / self.unit) + self.x).astype(int) % SIDE
        down = (rows * (130 / self.unit) + self.y).astype(int) % SIDE
        return (1 + _FOLDS * cloudy()[np.ix_(down, across)])[..., None]


def _everywhere(across: np.ndarray, down: np.ndarray, value: np.ndarray) -> np.ndarray:
    return np.broadcast_to(value, (down.shape[0], across.shape[1]))


def _odd(length: np.ndarray, period: float) -> np.ndarray:
    return np.mod(length, period) < period / 2


# Where a top shows its second colour, by distance (body heights) to the right of the chest's middle and below the
# shoulders, and by how much the body faces the camera.
PATTERN_MASKS: dict[str, Callable[[np.ndarray, np.ndarray, float], np.ndarray]] = {
    'plain': lambda across, down, facing: _everywhere(across, down, np.False_),
    'stripes': lambda across, down, facing: _everywhere(across, down, _odd(down, _STRIPE)),
    'pinstripes': lambda across, down, facing: _everywhere(across, down, _odd(across, _STRIPE * 0.9)),
    'check': lambda across, down, facing: _odd(across, _STRIPE * 1.5) ^ _odd(down, _STRIPE * 1.5),
    'block': lambda across, down, facing: _everywhere(across, down, down < 0.12),
    'logo': lambda across, down, facing: (
        (np.abs(across) < 0.05 * abs(facing)) & (np.abs(down - 0.11) < (0.03 if facing > 0 else 0.055))
    ),
    'open': lambda across, down, facing: (np.abs(across) < (0.036 if facing > 0.3 else 0) * facing) & (down < 0.40),
}
