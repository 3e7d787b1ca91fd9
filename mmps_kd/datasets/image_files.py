"""Image files: decoding, sizes and EXIF orientation (18,000 headers take a second or two)."""

import mmap
import os
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image

from mmps_kd.errors import UserError

from .cache import cached

REDUCTIONS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""By how much the decoder can divide the sides of a JPEG, with OpenCV's name of it."""

_THREADS = 16  # a network folder answers slowly, but many at once
_TIFF_STARTS = (b'II*\0', b'MM\0*')
_JPEG_START = b'\xff\xd8'

# EXIF orientation: whether rows and columns are exchanged, and whether the result is then mirrored in x and in y.
_TURNS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),  # by 90 degrees clockwise
    7: (True, True, True),
    8: (True, False, True),  # by 90 degrees counterclockwise
}
_INVERSE = {6: 8, 8: 6}  # the others are their own inverse


class DamagedImageError(UserError):
    """A file cannot be read as an image."""


def read_sizes(folder: Path, names: list[str]) -> np.ndarray:
    """Sizes of images as they are stored: the EXIF orientation is not applied.

    Args:
        folder: Where the images are.
        names: Their names in it; all are there.

    Returns:
        (N, 2) int64, height and width; 0, 0 where the file is no image. They are cached.
    """
    paths = [folder / name for name in names]
    return cached('image-sizes', paths, lambda: dict(sizes=_read_all(_size_or_none, paths).reshape(-1, 2)))['sizes']


def read_orientations(folder: Path, names: list[str]) -> np.ndarray:
    """EXIF orientations (N,) int64 of images, see :func:`read_orientation`. They are cached."""
    paths = [folder / name for name in names]
    return cached('image-orientations', paths, lambda: dict(turns=_read_all(read_orientation, paths)))['turns']


def stored_size(path: str | os.PathLike) -> tuple[int, int]:
    """Height and width of an image as it is stored.

    Raises:
        DamagedImageError: If the file is no image.
    """
    try:
        with Image.open(path) as image:
            if image.format == 'TIFF':  # its size is that of the turned image
                return image.tag_v2[257], image.tag_v2[256]
            return image.height, image.width
    except (OSError, ValueError, SyntaxError, KeyError, Image.DecompressionBombError):
        return decode_image(path).shape[:2]  # OpenCV knows formats that Pillow does not


def decode_image(path: str | os.PathLike, reduction: int = 1) -> np.ndarray:
    """Decode an image as training sees it: (H, W, 3) uint8, BGR, the first frame of several.

    Pixels are as stored: the EXIF orientation is not applied.

    Args:
        path: The file.
        reduction: One of ``REDUCTIONS``: a JPEG comes with its sides divided by it and rounded up, which is quicker to
            decode; other formats come in full size.

    Raises:
        DamagedImageError: If the file cannot be decoded to its end.
    """
    try:
        content = np.fromfile(path, dtype=np.uint8)
        flag = REDUCTIONS[reduction if content[:2].tobytes() == _JPEG_START else 1]
        image = cv2.imdecode(content, flag | cv2.IMREAD_IGNORE_ORIENTATION)
    except (OSError, cv2.error) as error:
        reason = 'it is empty' if os.path.getsize(path) == 0 else type(error).__name__
        raise DamagedImageError(f'{path} cannot be read as an image: {reason}') from None
    if image is None:
        raise DamagedImageError(f'{path} cannot be read as an image: it is truncated, damaged or something else')
    if content[:4].tobytes() in _TIFF_STARTS:  # OpenCV turns these in spite of the flag
        orientation = read_orientation(path)
        image = turn_upright(image, _INVERSE.get(orientation, orientation))
    return image


def decode_upright(path: str | os.PathLike) -> np.ndarray:
    """Decode an image as a viewer shows it: as :func:`decode_image`, and turned by its EXIF orientation."""
    return turn_upright(decode_image(path), read_orientation(path))


def read_orientation(path: str | os.PathLike) -> int:
    """EXIF orientation of a JPEG, PNG, WebP or TIFF file.

    Pillow is not used: it warns of damaged EXIF blocks without the file name, decodes a whole PNG to find none, and
    refuses photographs of 200 megapixels.

    Returns:
        1..8; 1, upright, where there is no such file, no EXIF block, or the block is damaged.
    """
    try:
        with open(path, 'rb') as file:
            block = _exif_block(file)
        order = {b'II': '<', b'MM': '>'}[block[:2]]
        (start,) = struct.unpack_from(f'{order}I', block, 4)
        (count,) = struct.unpack_from(f'{order}H', block, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, value = struct.unpack_from(f'{order}H6xH', block, entry)
            if tag == 0x0112:
                return value if value in _TURNS else 1
    except (OSError, KeyError, struct.error):
        pass
    return 1


def turn_upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an image (H, W, C) as stored to how a viewer shows it, by its EXIF orientation."""
    swapped, mirrored_x, mirrored_y = _TURNS[orientation]
    image = image.swapaxes(0, 1) if swapped else image
    return np.ascontiguousarray(image[:: -1 if mirrored_y else 1, :: -1 if mirrored_x else 1])


def upright_boxes(boxes: np.ndarray, orientation: int, size: tuple[int, int]) -> np.ndarray:
    """Bring boxes from pixels as stored to pixels of the upright image.

    Args:
        boxes: (N, 4) x1, y1, x2, y2.
        orientation: EXIF orientation.
        size: Height and width of the upright image.
    """
    swapped, mirrored_x, mirrored_y = _TURNS[orientation]
    x1, y1, x2, y2 = boxes[:, [1, 0, 3, 2] if swapped else [0, 1, 2, 3]].T
    if mirrored_x:
        x1, x2 = size[1] - x2, size[1] - x1
    if mirrored_y:
        y1, y2 = size[0] - y2, size[0] - y1
    return np.stack([x1, y1, x2, y2], axis=1)


def stored_boxes(boxes: np.ndarray, orientation: int, size: tuple[int, int]) -> np.ndarray:
    """Undo :func:`upright_boxes`, of the same arguments."""
    return upright_boxes(boxes, _INVERSE.get(orientation, orientation), turned_size(size, orientation))


def turned_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Height and width of the upright image from those of the image as stored, or the other way round."""
    return size[::-1] if _TURNS[orientation][0] else size


def _exif_block(file: BinaryIO) -> bytes:
    """The EXIF block of an image file, which has the form of a TIFF file; empty if there is none."""
    start = file.read(12)
    if start.startswith(_TIFF_STARTS):
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if start.startswith(b'\xff\xd8'):  # JPEG: segments, up to the pixels
        file.seek(2)
        while len(header := file.read(4)) == 4 and header[0] == 0xFF and header[1] != 0xDA:
            content = file.read(max(int.from_bytes(header[2:], 'big') - 2, 0))
            if header[1] == 0xE1 and content.startswith(b'Exif\0\0'):
                return content[6:]
    elif start.startswith(b'\x89PNG'):  # chunks: length, name, content, checksum
        file.seek(8)
        while len(header := file.read(8)) == 8:
            length, name = struct.unpack('>I4s', header)
            if name == b'eXIf':
                return file.read(length).removeprefix(b'Exif\0\0')
            file.seek(length + 4, os.SEEK_CUR)
    elif start[:4] == b'RIFF' and start[8:] == b'WEBP':  # chunks: name, length, content of an even number of bytes
        while len(header := file.read(8)) == 8:
            name, length = struct.unpack('<4sI', header)
            if name == b'EXIF':
                return file.read(length).removeprefix(b'Exif\0\0')
            file.seek(length + length % 2, os.SEEK_CUR)
    return b''


def _read_all(read: Callable[[Path], object], paths: list[Path]) -> np.ndarray:
    with ThreadPoolExecutor(_THREADS) as pool:
        return np.array(list(pool.map(read, paths)), dtype=np.int64)


def _size_or_none(path: Path) -> tuple[int, int]:
    try:
        return stored_size(path)
    except DamagedImageError:
        return 0, 0
