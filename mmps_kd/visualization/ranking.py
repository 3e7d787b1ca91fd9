"""The ranked strip of one query: the query in its scene, then the most similar people of the gallery."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

CELL_WIDTH, CELL_HEIGHT = 120, 240
MARGIN, FRAME, HEADER, CAPTION = 12, 4, 34, 42
INK, MUTED, PAPER = (30, 30, 30), (110, 110, 110), (255, 255, 255)
BLUE, GREEN, RED = (30, 100, 220), (20, 150, 60), (210, 40, 40)


@dataclass
class RankingPicture:
    """One row of the ranking.

    Attributes:
        image: (H, W, 3) uint8 RGB scene.
        box: (4,) x1, y1, x2, y2 in its pixels.
        similarity: Dot product of the embeddings.
        is_match: Whether it is the query's person.
        name: Image name for the caption.
    """

    image: np.ndarray
    box: np.ndarray
    similarity: float
    is_match: bool
    name: str


def draw_ranking(query_image: np.ndarray, query_box: np.ndarray, title: str, ranked: list[RankingPicture]) -> Image:
    """Draw a query and its ranking.

    Args:
        query_image: (H, W, 3) uint8 RGB scene of the query.
        query_box: (4,) x1, y1, x2, y2 in its pixels, framed in blue.
        title: Text above the strip.
        ranked: Most similar first; matches are framed in green, others in red.

    Returns:
        PIL image.
    """
    scene = _scene(query_image, query_box)
    width = scene.width + 3 * MARGIN + len(ranked) * (CELL_WIDTH + MARGIN)
    canvas = Image.new('RGB', (width, HEADER + CELL_HEIGHT + CAPTION + MARGIN), PAPER)
    pen = ImageDraw.Draw(canvas)
    pen.text((MARGIN, 9), title, INK, _font(16, bold=True))
    canvas.paste(scene, (MARGIN, HEADER))
    pen.text((MARGIN, HEADER + CELL_HEIGHT + 4), 'query', BLUE, _font(14, bold=True))
    for rank, item in enumerate(ranked, start=1):
        x = scene.width + 3 * MARGIN + (rank - 1) * (CELL_WIDTH + MARGIN)
        colour = GREEN if item.is_match else RED
        canvas.paste(_cell(item.image, item.box, colour), (x, HEADER))
        pen.text((x, HEADER + CELL_HEIGHT + 4), f'{rank}  {item.similarity:.2f}', colour, _font(14, bold=True))
        pen.text((x, HEADER + CELL_HEIGHT + 22), _shorten(item.name), MUTED, _font(12))
    return canvas


def _scene(image: np.ndarray, box: np.ndarray) -> Image:
    """The whole scene at the strip's height, the person framed."""
    factor = CELL_HEIGHT / image.shape[0]
    scene = Image.fromarray(image).resize((round(image.shape[1] * factor), CELL_HEIGHT), Image.LANCZOS)
    ImageDraw.Draw(scene).rectangle(list(np.asarray(box) * factor), outline=BLUE, width=FRAME - 1)
    return scene


def _cell(image: np.ndarray, box: np.ndarray, colour: tuple[int, int, int]) -> Image:
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
    cell.paste((235, 235, 235), (FRAME, FRAME, CELL_WIDTH - FRAME, CELL_HEIGHT - FRAME))
    cell.paste(crop, ((CELL_WIDTH - crop.width) // 2, (CELL_HEIGHT - crop.height) // 2))
    return cell


def _shorten(name: str, limit: int = 17) -> str:
    name = Path(name).name
    return name if len(name) <= limit else '…' + name[1 - limit :]


@lru_cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    # DejaVu comes with matplotlib, so that every machine draws the same letters.
    file = 'DejaVuSans-Bold.ttf' if bold else 'DejaVuSans.ttf'
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / file), size)
