"""People in a scene: a frame and a label for each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from .labels import place_labels
from .style import INK, PAPER, Colour, font, readable_on

MIN_SIDE, GAP, COLUMNS = 600, 12, 3


@dataclass
class FramedPerson:
    """A person to draw.

    Attributes:
        box: (4,) x1, y1, x2, y2 in pixels of the scene.
        colour: Of frame and label.
        label: Text; none if empty.
    """

    box: np.ndarray
    colour: Colour
    label: str


def draw_people(image: np.ndarray, people: Sequence[FramedPerson], heading: str) -> np.ndarray:
    """Frame and label people, under a heading.

    A small scene is enlarged, so that letters do not hide it.

    Args:
        image: (H, W, 3) uint8 RGB.
        people: Whom to draw.
        heading: What the picture shows; cut off where the scene is too narrow for it.

    Returns:
        (H', W', 3) uint8 RGB; the same size for the same scene, whoever is in it.
    """
    scene, factor = enlarge(image)
    letters = font(letter_height(scene))
    boxes = np.array([person.box for person in people], dtype=float).reshape(-1, 4) * factor
    _frame(scene, boxes, people, width=max(3, min(scene.size) // 240))
    labelled = [index for index, person in enumerate(people) if person.label]
    padding = letters.size // 4
    texts = [people[index].label for index in labelled]
    sizes = np.array([(letters.getlength(text) + 2 * padding, letters.size + 2 * padding) for text in texts])
    places = place_labels(boxes[labelled], sizes.reshape(-1, 2), scene.size)
    pen = ImageDraw.Draw(scene)
    for index, text, (x1, y1, x2, y2) in zip(labelled, texts, places, strict=True):
        colour = people[index].colour
        pen.rectangle((x1, y1, x2, y2), colour)
        pen.text(((x1 + x2) / 2, (y1 + y2) / 2), text, readable_on(colour), letters, anchor='mm')
    return add_heading(scene, heading)


def enlarge(image: np.ndarray) -> tuple[Image.Image, float]:
    """A scene of at least 600 pixels on its shorter side, and the factor that it was enlarged by."""
    height, width = image.shape[:2]
    factor = max(1.0, MIN_SIDE / min(height, width))
    return Image.fromarray(image).resize((round(width * factor), round(height * factor)), Image.BICUBIC), factor


def add_heading(scene: Image.Image, text: str) -> np.ndarray:
    """Put a line of text above a scene; returns (H', W, 3) uint8 RGB."""
    letters = font(letter_height(scene) + 2, bold=True)
    bar = 2 * letters.size
    canvas = Image.new('RGB', (scene.width, scene.height + bar), PAPER)
    ImageDraw.Draw(canvas).text((letters.size // 2, bar // 2), text, INK, letters, anchor='lm')
    canvas.paste(scene, (0, bar))
    return np.asarray(canvas)


def join_panels(panels: Sequence[np.ndarray]) -> np.ndarray:
    """Put panels (H, W, 3) of one size side by side, three in a row, with white between them."""
    rows, columns = -(-len(panels) // COLUMNS), min(len(panels), COLUMNS)
    height, width = panels[0].shape[0] + GAP, panels[0].shape[1] + GAP
    canvas = np.full((rows * height - GAP, columns * width - GAP, 3), PAPER, np.uint8)
    for index, panel in enumerate(panels):
        top, left = index // COLUMNS * height, index % COLUMNS * width
        canvas[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
    return canvas


def letter_height(scene: Image.Image) -> int:
    """Height in pixels that letters are readable at."""
    return int(np.clip(min(scene.size) // 45, 13, 26))


def _frame(scene: Image.Image, boxes: np.ndarray, people: Sequence[FramedPerson], width: int) -> None:
    pen = ImageDraw.Draw(scene)
    # A white rim keeps the frame visible on a ground of its own colour.
    for box, person in zip(boxes, people, strict=True):
        (x1, y1), (x2, y2) = box[:2], np.maximum(box[:2], box[2:])
        pen.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=PAPER, width=width + 2)
        pen.rectangle((x1, y1, x2, y2), outline=person.colour, width=width)
