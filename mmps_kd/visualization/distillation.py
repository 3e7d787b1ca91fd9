"""A student beside its teacher: what both detect, and where their features differ."""

import cv2
import matplotlib
import numpy as np
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from .draw import INK, PAPER, add_heading, enlarge, font, letter_height

_HEAT = matplotlib.colormaps['inferno']
_OPACITY, _HOTTEST = 0.65, 2.0


def feature_difference(student: Tensor, teacher: Tensor) -> Tensor:
    """Where a student's feature map differs from its teacher's.

    Args:
        student: (C, H, W) after the adaptation layer.
        teacher: (C, H, W).

    Returns:
        (H, W) fp32: L2 norm of each cell's difference, in units of the teacher's root mean square norm. The root mean
        square of the result is ||A(S) - T|| / ||T||.
    """
    student, teacher = student.float(), teacher.float()
    return (student - teacher).norm(dim=0) / teacher.norm(dim=0).square().mean().sqrt()


def spread_over_image(values: Tensor, padded: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Values of feature cells for the pixels of an image.

    Args:
        values: (H_c, W_c), over the padded input.
        padded: Height and width of the network's input with its padding.
        size: Height and width without.

    Returns:
        (size) float32, bilinear.
    """
    spread = F.interpolate(values[None, None], size=padded, mode='bilinear', align_corners=False)
    return spread[0, 0, : size[0], : size[1]].cpu().numpy()


def draw_difference(image: np.ndarray, values: np.ndarray, heading: str) -> np.ndarray:
    """Lay a heat map over an image in grey, with its scale: black 0, pale yellow 2 and more.

    Args:
        image: (H, W, 3) uint8 RGB.
        values: (h, w) float, at least 0, over the whole image.
        heading: What the map shows.

    Returns:
        (H', W', 3) uint8 RGB, the size that :func:`mmps_kd.visualization.draw.draw_boxes` gives.
    """
    scene, _ = enlarge(image)
    heat = cv2.resize(values.astype(np.float32), scene.size, interpolation=cv2.INTER_LINEAR)
    grey = np.asarray(scene.convert('L'))[..., None]
    blended = _OPACITY * 255 * _HEAT((heat / _HOTTEST).clip(0, 1))[..., :3] + (1 - _OPACITY) * grey
    picture = Image.fromarray(add_heading(Image.fromarray(blended.round().astype(np.uint8)), heading))
    _add_scale(picture, letter_height(scene))
    return np.asarray(picture)


def _add_scale(picture: Image.Image, height: int) -> None:
    """Draw what the colours mean into the lower right corner."""
    letters, pen = font(height), ImageDraw.Draw(picture)
    bar = _HEAT(np.linspace(0, 1, 8 * height))[None, :, :3].repeat(height, axis=0)
    box = Image.new('RGB', (13 * height, 2 * height), PAPER)
    box.paste(Image.fromarray((255 * bar).round().astype(np.uint8)), (3 * height // 2, height // 2))
    left, top = picture.width - box.width - height // 2, picture.height - box.height - height // 2
    picture.paste(box, (left, top))
    pen.text((left + 3 * height // 4, top + height), '0', INK, letters, anchor='mm')
    pen.text((left + 11 * height, top + height), f'≥ {_HOTTEST:g}', INK, letters, anchor='mm')
