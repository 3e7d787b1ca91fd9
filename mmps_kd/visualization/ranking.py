"""The ranked strip of one query: the query in its image, the most similar persons of the gallery, then those missed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from .draw import AMBER, BLUE, EMPTY, GREEN, INK, MUTED, PAPER, RED, Colour, font

CELL_WIDTH, CELL_HEIGHT = 120, 240
MARGIN, FRAME, HEADER, CAPTION = 12, 4, 34, 42
_VERDICTS = {True: (' ✓', GREEN), False: (' ✗', RED), None: ('', MUTED)}


@dataclass
class RankingPicture:
    """One row of the ranking.

    Attributes:
        image: (H, W, 3) uint8 RGB image.
        box: (4,) x1, y1, x2, y2 in its pixels.
        similarity: Dot product of the embeddings.
        is_match: Whether it is the query's person; None without ground truth.
        name: Image name for the caption.
    """

    image: np.ndarray
    box: np.ndarray
    similarity: float
    is_match: bool | None
    name: str


@dataclass
class MissedPicture:
    """The query's person where the ranking that is shown does not have him.

    Attributes:
        image: (H, W, 3) uint8 RGB image.
        box: (4,) annotated x1, y1, x2, y2 in its pixels.
        rank: Where the ranking has him, counted from 1; None if he was not detected.
        name: Image name for the caption.
    """

    image: np.ndarray
    box: np.ndarray
    rank: int | None
    name: str


def draw_ranking(
    query_image: np.ndarray,
    query_box: np.ndarray,
    title: str,
    ranked: Sequence[RankingPicture],
    missed: Sequence[MissedPicture] = (),
) -> Image.Image:
    """Draw a query and its ranking.

    Args:
        query_image: (H, W, 3) uint8 RGB image of the query.
        query_box: (4,) x1, y1, x2, y2 in its pixels, framed in blue; (N, 4) for several.
        title: Text above the strip.
        ranked: Most similar first; matches are framed in green, others in red, in grey without ground truth.
        missed: Shown behind a line, framed in amber.

    Returns:
        PIL image.
    """
    scene = _scene(query_image, query_box)
    captions = _short_names([item.name for item in (*ranked, *missed)])
    step = CELL_WIDTH + MARGIN
    first = scene.width + 3 * MARGIN
    first_missed = first + len(ranked) * step + 2 * MARGIN
    width = first_missed + len(missed) * step if missed else first + len(ranked) * step
    heading = font(16, bold=True)
    width = max(width, round(heading.getlength(title)) + 2 * MARGIN)
    canvas = Image.new('RGB', (width, HEADER + CELL_HEIGHT + CAPTION + MARGIN), PAPER)
    pen = ImageDraw.Draw(canvas)
    pen.text((MARGIN, 9), title, INK, heading)
    canvas.paste(scene, (MARGIN, HEADER))
    pen.text((MARGIN, HEADER + CELL_HEIGHT + 4), 'query', BLUE, font(14, bold=True))
    for index, item in enumerate(ranked):
        verdict, colour = _VERDICTS[item.is_match]
        caption = f'{index + 1}  {item.similarity:.2f}{verdict}'
        _add_cell(canvas, first + index * step, item, (caption, captions[item.name]), colour)
    for index, item in enumerate(missed):
        caption = 'not detected' if item.rank is None else f'rank {item.rank}'
        _add_cell(canvas, first_missed + index * step, item, (caption, captions[item.name]), AMBER)
    if missed:
        line = first_missed - 3 * MARGIN // 2
        pen.line((line, HEADER, line, HEADER + CELL_HEIGHT + CAPTION), MUTED, 1)
    return canvas


def _scene(image: np.ndarray, box: np.ndarray) -> Image.Image:
    """The whole image at the strip's height, the person framed."""
    factor = CELL_HEIGHT / image.shape[0]
    scene = Image.fromarray(image).resize((round(image.shape[1] * factor), CELL_HEIGHT), Image.LANCZOS)
    for corners in np.atleast_2d(box) * factor:
        ImageDraw.Draw(scene).rectangle(list(corners), outline=BLUE, width=FRAME - 1)
    return scene


def _add_cell(
    canvas: Image.Image, x: int, item: RankingPicture | MissedPicture, lines: tuple[str, str], colour: Colour
) -> None:
    """Put a person and two lines of caption into the strip."""
    pen = ImageDraw.Draw(canvas)
    canvas.paste(_cell(item.image, item.box, colour), (x, HEADER))
    pen.text((x, HEADER + CELL_HEIGHT + 4), lines[0], colour, font(14, bold=True))
    pen.text((x, HEADER + CELL_HEIGHT + 22), lines[1], MUTED, font(12))


def _cell(image: np.ndarray, box: np.ndarray, colour: Colour) -> Image.Image:
    """The person with a little context, fitted into a framed cell."""
    x1, y1, x2, y2 = box
    pad = 0.08 * max(x2 - x1, y2 - y1)
    # A box can be thinner than a pixel; the crop cannot.
    left, top = int(max(x1 - pad, 0)), int(max(y1 - pad, 0))
    right, bottom = int(max(np.ceil(x2 + pad), left + 1)), int(max(np.ceil(y2 + pad), top + 1))
    crop = Image.fromarray(image[top:bottom, left:right])
    room = (CELL_WIDTH - 2 * FRAME, CELL_HEIGHT - 2 * FRAME)
    factor = min(room[0] / crop.width, room[1] / crop.height)
    crop = crop.resize((max(round(crop.width * factor), 1), max(round(crop.height * factor), 1)), Image.LANCZOS)
    cell = Image.new('RGB', (CELL_WIDTH, CELL_HEIGHT), colour)
    cell.paste(EMPTY, (FRAME, FRAME, CELL_WIDTH - FRAME, CELL_HEIGHT - FRAME))
    cell.paste(crop, ((CELL_WIDTH - crop.width) // 2, (CELL_HEIGHT - crop.height) // 2))
    return cell


def _short_names(names: Sequence[str], limit: int = 17) -> dict[str, str]:
    """Captions of images: the file's name; with its folder where two images have the same."""
    files = {name: Path(name).name for name in names}
    if len(set(files.values())) < len(files):
        files = {name: '/'.join(Path(name).parts[-2:]) for name in files}
    return {name: file if len(file) <= limit else '…' + file[1 - limit :] for name, file in files.items()}
