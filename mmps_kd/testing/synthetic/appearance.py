"""What a person looks like: few values of each attribute, so that only their combination tells people apart."""

from dataclasses import dataclass

import numpy as np

Colour = tuple[float, float, float]

# Colours are B, G, R.
SKIN = ((185, 205, 235), (150, 180, 220), (110, 145, 195), (70, 95, 140), (45, 60, 95))
HAIR = ((25, 25, 30), (35, 45, 65), (50, 80, 120), (90, 150, 190), (150, 150, 155))
CLOTHES = (
    (35, 32, 32),
    (235, 235, 235),
    (140, 138, 135),
    (45, 40, 175),
    (135, 75, 35),
    (190, 130, 60),
    (70, 115, 50),
    (75, 190, 225),
    (50, 115, 215),
    (115, 55, 105),
    (175, 150, 225),
    (120, 165, 190),
)
TROUSERS = (
    (40, 36, 36),
    (110, 70, 40),
    (150, 110, 75),
    (105, 105, 105),
    (120, 160, 185),
    (60, 75, 100),
    (225, 225, 225),
)
SHOES = ((30, 30, 32), (230, 230, 230), (50, 75, 115), (50, 45, 170), (120, 118, 118))
PATTERNS = ('plain', 'stripes', 'pinstripes', 'check', 'block', 'logo', 'open')
BOTTOMS = ('trousers', 'trousers', 'trousers', 'shorts', 'skirt')
BAGS = ('none', 'none', 'backpack', 'shoulder', 'handbag')


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


def sample_appearance(rng: np.random.Generator) -> Appearance:
    """Draw a person."""

    def one_of(values: tuple) -> object:
        return values[rng.integers(len(values))]

    top, second = (CLOTHES[i] for i in rng.choice(len(CLOTHES), 2, replace=False))
    return Appearance(
        height=float(np.clip(rng.normal(1.70, 0.09), 1.48, 1.93)),
        girth=float(rng.choice([0.88, 1.0, 1.15])),
        skin=one_of(SKIN),
        hair=one_of(HAIR),
        hair_length=one_of(('short', 'short', 'long', 'bald' if rng.random() < 0.2 else 'bun')),
        top=top,
        second=second,
        pattern=one_of(PATTERNS),
        sleeves=one_of(('long', 'long', 'short')),
        coat=bool(rng.random() < 0.2),
        bottom=one_of(TROUSERS),
        bottom_kind=one_of(BOTTOMS),
        shoes=one_of(SHOES),
        bag=one_of(BAGS),
        bag_colour=one_of(CLOTHES),
        hat=one_of(('none', 'none', 'none', 'none', 'cap', 'beanie')),
        hat_colour=one_of(CLOTHES),
    )
