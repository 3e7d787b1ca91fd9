"""Looking at every image, all of it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from mmps_kd.datasets.image_files import DamagedImageError, decode_scene, read_orientation

from .findings import Finding

TURNED = 'EXIF says to turn it: read as stored'
_USUAL_MODES = ('RGB', 'P')


def inspect_images(split: str, folder: Path, names: list[str], jobs: int) -> Iterator[tuple[Finding, ...]]:
    """Decode images in parallel (OpenCV and Pillow let go of Python's lock), with a progress bar.

    Args:
        split: For the findings.
        folder: Where the images are.
        names: Their names in it; all are there.
        jobs: Number of threads.

    Yields:
        What was found, image by image.
    """
    pool = ThreadPoolExecutor(jobs)
    try:
        found = pool.map(partial(inspect_image, split, folder), names)
        yield from tqdm(found, total=len(names), desc=split, unit='image', disable=None)
    finally:
        pool.shutdown(cancel_futures=True)


def inspect_image(split: str, folder: Path, name: str) -> tuple[Finding, ...]:
    """Everything that there is to say about one image file."""
    try:
        decode_scene(folder / name)
        return tuple(Finding(split, what, name, detail, False) for what, detail in _peculiarities(folder / name))
    except DamagedImageError as error:
        return (Finding(split, 'damaged image', name, str(error)),)


def _peculiarities(path: Path) -> Iterator[tuple[str, str]]:
    """What is converted when the image is loaded.

    Raises:
        DamagedImageError: If Pillow, which is stricter than some releases of OpenCV, misses a part of the image.
    """
    try:
        with Image.open(path) as image:
            frames = getattr(image, 'n_frames', 1)
            image.load()
    except Image.UnidentifiedImageError:
        return  # OpenCV reads it
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DamagedImageError(f'{path} cannot be read as an image: {error}') from None
    if image.mode not in _USUAL_MODES:
        yield 'not RGB of 8 bits: converted', f'mode {image.mode}'
    if frames > 1:
        yield 'animated: the first picture is taken', f'{frames} pictures'
    if (orientation := read_orientation(path)) != 1:
        yield TURNED, f'orientation {orientation}'
