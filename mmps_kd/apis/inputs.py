"""What an inferencer looks at: files, folders, patterns, arrays and videos, read one scene at a time."""

import glob
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mmps_kd.datasets.image_files import decode_scene
from mmps_kd.errors import UserError

from .videos import count_frames, video_frames

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif', '.tiff', '.webp')
VIDEO_SUFFIXES = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg')

Input = str | os.PathLike | np.ndarray
"""An image or video file, a folder of images, a pattern such as ``cam1/*.jpg``, or (H, W, 3) uint8 BGR."""


@dataclass(frozen=True, eq=False)
class Scene:
    """An image that has not been read yet.

    Attributes:
        name: Absolute path; of a video's frame followed by ``#`` and its number, counted from 0; of an array
            ``array`` and its place in the list.
        stamp: Changes when the content does.
        read: Gives (H, W, 3) uint8 BGR, pixels as stored, or raises ``DamagedImageError``. A frame can be read only
            until the next one is asked for.
    """

    name: str
    stamp: str
    read: Callable[[], np.ndarray]


class Scenes:
    """The scenes of some inputs, in order, each file once; they can be gone through several times.

    A folder stands for the images directly in it, by name. ``len`` of it trusts the number of frames that a video's
    header claims.

    Args:
        inputs: One or several.
        frame_stride: Of a video every so many frames, from the first on.

    Raises:
        UserError: If a file is not there, a folder or pattern holds no image, an array is no image, or there is
            nothing at all.
    """

    def __init__(self, inputs: Input | Sequence[Input], frame_stride: int = 1) -> None:
        if frame_stride < 1:
            raise UserError(f'frame_stride must be at least 1, not {frame_stride}')
        inputs = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
        arrays = {f'array {i}': _require_image(x) for i, x in enumerate(inputs) if isinstance(x, np.ndarray)}
        files = [file for x in inputs if not isinstance(x, np.ndarray) for file in _files(os.fspath(x))]
        if not arrays and not files:
            raise UserError('no images were given')
        self.arrays = arrays
        self.files = list(dict.fromkeys(files))
        self.frame_stride = frame_stride

    def __len__(self) -> int:
        videos = [file for file in self.files if _is_video(file)]
        frames = sum(count_frames(video, self.frame_stride) for video in videos)
        return len(self.arrays) + len(self.files) - len(videos) + frames

    def __iter__(self) -> Iterator[Scene]:
        for name, image in self.arrays.items():
            stamp = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
            yield Scene(name, stamp, partial(np.asarray, image))
        for file in self.files:
            stamp = _stamp(file)
            if _is_video(file):
                for number, read in video_frames(file, self.frame_stride):
                    yield Scene(f'{file}#{number}', stamp, read)
            else:
                yield Scene(file, stamp, partial(decode_scene, file))


def _require_image(image: np.ndarray) -> np.ndarray:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise UserError(f'an array must be (H, W, 3) of uint8 in BGR order, not {image.shape} of {image.dtype}')
    return image


def _files(name: str) -> list[str]:
    """Absolute paths of what a path or pattern stands for."""
    path = os.path.abspath(os.path.expanduser(name))
    if os.path.isfile(path):
        return [path]
    is_folder = os.path.isdir(path)
    suffixes = IMAGE_SUFFIXES if is_folder else IMAGE_SUFFIXES + VIDEO_SUFFIXES
    inside = os.listdir(path) if is_folder else glob.glob(path, recursive=True)
    files = [os.path.join(path, file) for file in sorted(inside) if file.lower().endswith(suffixes)]
    files = [file for file in files if os.path.isfile(file)]
    if not files and is_folder:
        raise UserError(f'{name} holds no image')
    if not files:
        raise UserError(f'{name}: there is no such file or folder, and no image or video that fits it as a pattern')
    return files


def _is_video(file: str) -> bool:
    return file.lower().endswith(VIDEO_SUFFIXES)


def _stamp(file: str) -> str:
    stat = Path(file).stat()
    return f'{stat.st_size} bytes, {stat.st_mtime_ns} ns'
