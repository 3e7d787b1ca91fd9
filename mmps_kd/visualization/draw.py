"""Draw images with labelled boxes: annotations, detections, and what they share, colours, fonts and label positions."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mmps_kd.structures import UNLABELLED

Colour = tuple[int, int, int]

INK, MUTED, PAPER, EMPTY = (30, 30, 30), (110, 110, 110), (255, 255, 255), (235, 235, 235)
BLUE, GREEN, RED, AMBER = (30, 100, 220), (20, 150, 60), (210, 40, 40), (200, 120, 0)
_GOLDEN_RATIO = 0.6180339887

MIN_SIDE, GAP, COLUMNS = 600, 12, 3
UNMATCHED = -2
MIN_OVERLAP = 0.5
_ON_LABEL, _ON_UPPER_BODY, _ON_LOWER_BODY, _NEXT_CHOICE = 20.0, 3.0, 1.0, 0.05


def draw_ground_truth(image: np.ndarray, people: InstanceData, heading: str = 'annotated') -> np.ndarray:
    """Draw the true persons, each in the colour of his identity and labelled with it; grey without identity.

    Args:
        image: (H, W, 3) uint8 RGB.
        people: ``bboxes`` (G, 4) in its pixels and ``pids`` (G,), on the CPU.
        heading: What the persons are, for the line above the picture, which counts them.

    Returns:
        (H', W', 3) uint8 RGB.
    """
    pids = people.pids.tolist()
    return _draw(image, people.bboxes, pids, [_name(pid) for pid in pids], heading)


def draw_detections(
    image: np.ndarray, found: InstanceData, people: InstanceData | None, heading: str = 'found'
) -> np.ndarray:
    """Draw detections with their scores, each in the colour of the person that it found (:func:`match_detections`).

    A false detection is black and marked with a cross; without ground truth, all are grey.

    Args:
        image: (H, W, 3) uint8 RGB.
        found: ``bboxes`` (N, 4) in its pixels and ``scores`` (N,), on the CPU.
        people: As for :func:`draw_ground_truth`; None without ground truth.
        heading: As for :func:`draw_ground_truth`.

    Returns:
        (H', W', 3) uint8 RGB, the size that :func:`draw_ground_truth` gives.
    """
    pids = match_detections(found.bboxes, people).tolist()
    texts = [_name(pid, f'{score:.2f}') for pid, score in zip(pids, found.scores.tolist(), strict=True)]
    return _draw(image, found.bboxes, pids, texts, heading)


def match_detections(boxes: Tensor, people: InstanceData | None) -> Tensor:
    """Match detections with true boxes: each is the best of the other, with IoU >= 0.5.

    This is the rule that detection is scored by (:func:`mmps_kd.evaluation.functional.evaluate_detection`).

    Args:
        boxes: (N, 4) of detections.
        people: With ``bboxes`` (G, 4) in the same pixels and ``pids`` (G,); None without ground truth.

    Returns:
        (N,) int64 identities, -1 for a person without one and without ground truth, -2 for a false detection.
    """
    if people is None:
        return torch.full((len(boxes),), UNLABELLED)
    pids = torch.full((len(boxes),), UNMATCHED)
    if len(boxes) and len(people):
        overlaps = bbox_overlaps(boxes, people.bboxes)
        best = overlaps.argmax(dim=1)
        mutual = overlaps.argmax(dim=0)[best] == torch.arange(len(boxes))
        found = mutual & (overlaps.amax(dim=1) >= MIN_OVERLAP)
        pids[found] = people.pids[best[found]]
    return pids


def _draw(image: np.ndarray, boxes: Tensor, pids: list[int], texts: list[str], heading: str) -> np.ndarray:
    people = [
        LabelledBox(box, INK if pid == UNMATCHED else identity_colour(pid), text)
        for box, pid, text in zip(boxes.numpy(), pids, texts, strict=True)
    ]
    return draw_boxes(image, people, f'{heading}: {_count(pids)}')


def _name(pid: int, score: str = '') -> str:
    """Label of a box."""
    name = {UNLABELLED: '', UNMATCHED: '✗'}.get(pid, str(pid))
    return f'{name} {score}'.strip()


def _count(pids: list[int]) -> str:
    """How many persons of which kind."""
    wrong, named = pids.count(UNMATCHED), sum(pid >= 0 for pid in pids)
    people = len(pids) - wrong
    parts = ['1 person' if people == 1 else f'{people} people']
    parts += [f'{named} with identity'] if named else []
    parts += [f'{wrong} false'] if wrong else []
    return ', '.join(parts)


@dataclass
class LabelledBox:
    """A person to draw.

    Attributes:
        box: (4,) x1, y1, x2, y2 in pixels of the image.
        colour: Of frame and label.
        label: Text; none if empty.
    """

    box: np.ndarray
    colour: Colour
    label: str


def draw_boxes(image: np.ndarray, people: Sequence[LabelledBox], heading: str) -> np.ndarray:
    """Frame and label persons, under a heading.

    A small image is enlarged, so that letters do not hide it.

    Args:
        image: (H, W, 3) uint8 RGB.
        people: What to draw.
        heading: What the picture shows; cut off where the image is too narrow for it.

    Returns:
        (H', W', 3) uint8 RGB; the same size for the same image, whatever is drawn.
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
    """An image of at least 600 pixels on its shorter side, and the factor that it was enlarged by."""
    height, width = image.shape[:2]
    factor = max(1.0, MIN_SIDE / min(height, width))
    return Image.fromarray(image).resize((round(width * factor), round(height * factor)), Image.BICUBIC), factor


def add_heading(scene: Image.Image, text: str) -> np.ndarray:
    """Put a line of text above an image; returns (H', W, 3) uint8 RGB."""
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


def _frame(scene: Image.Image, boxes: np.ndarray, people: Sequence[LabelledBox], width: int) -> None:
    pen = ImageDraw.Draw(scene)
    # A white rim keeps the frame visible on a ground of its own colour.
    for box, person in zip(boxes, people, strict=True):
        (x1, y1), (x2, y2) = box[:2], np.maximum(box[:2], box[2:])
        pen.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=PAPER, width=width + 2)
        pen.rectangle((x1, y1, x2, y2), outline=person.colour, width=width)


def place_labels(boxes: np.ndarray, sizes: np.ndarray, canvas: tuple[int, int]) -> np.ndarray:
    """Choose a place for the label of each box, one after another from the top of the picture.

    Each goes to the first of the places around its box (above, below, at a side, at the feet) where it covers
    neither another label nor a person; if there is none, where it covers least: faces count more than legs, other
    labels most. Ours.

    Args:
        boxes: (N, 4) float, x1, y1, x2, y2 in pixels.
        sizes: (N, 2) width and height of the labels, smaller than the canvas.
        canvas: Width and height of the picture.

    Returns:
        (N, 4) float, the labels' rectangles, inside of the canvas.
    """
    placed = np.zeros((0, 4))
    labels = np.zeros((len(boxes), 4))
    for index in np.argsort(boxes[:, 1], kind='stable'):
        choices = _around(boxes[index], *sizes[index], *canvas)
        cost = _ON_LABEL * covered(choices, placed) + _cost_of_people(choices, boxes)
        labels[index] = choices[(cost + _NEXT_CHOICE * np.arange(len(choices))).argmin()]
        placed = np.append(placed, labels[[index]], axis=0)
    return labels


def covered(rectangles: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How much of each rectangle (K, 4) others (M, 4) cover, in shares of its area, summed over them: (K,)."""
    upper_left = np.maximum(rectangles[:, None, :2], others[None, :, :2])
    lower_right = np.minimum(rectangles[:, None, 2:], others[None, :, 2:])
    shared = (lower_right - upper_left).clip(min=0).prod(axis=2).sum(axis=1)
    return shared / (rectangles[:, 2:] - rectangles[:, :2]).prod(axis=1)


def _cost_of_people(rectangles: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    upper, lower = boxes.copy(), boxes.copy()
    upper[:, 3] = lower[:, 1] = boxes[:, [1, 3]].mean(axis=1)
    return _ON_UPPER_BODY * covered(rectangles, upper) + _ON_LOWER_BODY * covered(rectangles, lower)


def _around(box: np.ndarray, width: float, height: float, canvas_width: int, canvas_height: int) -> np.ndarray:
    """(10, 4) the places of a label, the best first, moved into the canvas."""
    x1, y1, x2, y2 = box
    right, middle = x2 - width, (x1 + x2 - width) / 2
    corners = [
        *((x, y1 - height) for x in (x1, right, middle)),
        *((x, y2) for x in (x1, right)),
        *((x, y) for y in (y1, y2 - height) for x in (x2, x1 - width)),
        (x1, y2 - height),
    ]
    corners = np.clip(corners, 0, [canvas_width - width, canvas_height - height])
    return np.concatenate([corners, corners + [width, height]], axis=1)


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
