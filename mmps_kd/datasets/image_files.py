"""Sizes of image files, from their headers: 18,000 of them take a second or two."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mmps_kd.errors import UserError

from .cache import cached

_THREADS = 16  # a network folder answers slowly, but many at once


class DamagedImageError(UserError):
    """A file cannot be read as an image."""


def read_sizes(folder: Path, names: list[str]) -> np.ndarray:
    """Sizes of images as they are stored: a turn by EXIF is not made.

    Args:
        folder: Where the images are.
        names: Their names in it; all are there.

    Returns:
        (N, 2) int64, height and width; 0, 0 where the file is no image. They are cached.
    """
    paths = [folder / name for name in names]

    def read() -> dict[str, np.ndarray]:
        with ThreadPoolExecutor(_THREADS) as pool:
            return dict(sizes=np.array(list(pool.map(_size_or_none, paths)), dtype=np.int64).reshape(-1, 2))

    return cached('image-sizes', paths, read)['sizes']


def stored_size(path: str | os.PathLike) -> tuple[int, int]:
    """Height and width of an image as it is stored.

    Raises:
        DamagedImageError: If the file is no image.
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return decode_scene(path).shape[:2]  # OpenCV knows formats that Pillow does not


def decode_scene(path: str | os.PathLike) -> np.ndarray:
    """Decode an image as training sees it: (H, W, 3) uint8, BGR, pixels as stored, the first picture of several.

    Raises:
        DamagedImageError: If the file cannot be decoded to its end.
    """
    try:
        content = np.fromfile(path, dtype=np.uint8)
        image = cv2.imdecode(content, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except (OSError, cv2.error) as error:
        reason = 'it is empty' if os.path.getsize(path) == 0 else type(error).__name__
        raise DamagedImageError(f'{path} cannot be read as an image: {reason}') from None
    if image is None:
        raise DamagedImageError(f'{path} cannot be read as an image: it is truncated, damaged or something else')
    return image


def _size_or_none(path: Path) -> tuple[int, int]:
    try:
        return stored_size(path)
    except DamagedImageError:
        return 0, 0
