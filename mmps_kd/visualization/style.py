"""The look that all pictures share: colours and letters."""

import colorsys
from functools import lru_cache
from pathlib import Path

import matplotlib
from PIL import ImageFont

Colour = tuple[int, int, int]

INK, MUTED, PAPER, EMPTY = (30, 30, 30), (110, 110, 110), (255, 255, 255), (235, 235, 235)
BLUE, GREEN, RED, AMBER = (30, 100, 220), (20, 150, 60), (210, 40, 40), (200, 120, 0)
_GOLDEN_RATIO = 0.6180339887


def identity_colour(pid: int) -> Colour:
    """Colour of a person: the same in every picture, grey without identity.

    Steps of the golden ratio around the colour circle keep identities apart that are numbered one after another, and
    three degrees of lightness those that come close to each other on it.

    Args:
        pid: Identity; below 0: unlabelled.

    Returns:
        RGB.
    """
    if pid < 0:
        return MUTED
    red, green, blue = colorsys.hls_to_rgb(pid * _GOLDEN_RATIO % 1, (0.4, 0.55, 0.3)[pid % 3], 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)


def readable_on(colour: Colour) -> Colour:
    """Black or white, whichever is easier to read on a colour, by its relative luminance (WCAG 2)."""
    red, green, blue = ((channel / 255) ** 2.2 for channel in colour)
    return INK if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.25 else PAPER


@lru_cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The letters of all pictures, ``size`` pixels high."""
    # DejaVu comes with matplotlib, so that every machine draws the same letters.
    file = 'DejaVuSans-Bold.ttf' if bold else 'DejaVuSans.ttf'
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / file), size)
