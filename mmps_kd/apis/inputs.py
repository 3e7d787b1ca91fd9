"""What an inferencer looks at: files, folders, patterns, arrays and videos, read one image at a time."""

import copy
import fnmatch
import hashlib
import os
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache, partial
from itertools import groupby, islice
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image

from mmps_kd.datasets.image_files import DamagedImageError, decode_upright, read_orientation
from mmps_kd.errors import UserError
from mmps_kd.gallery import Gallery, is_video, split_frame

from .results import Skipped

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif', '.tiff', '.webp', '.heic', '.heif')

Input = str | os.PathLike | np.ndarray
"""An image or video file, a frame of a video such as ``cam1.mp4#250``, a folder of images and videos, a pattern such as
``cam1/*.jpg``, or (H, W, 3) uint8 BGR."""


@dataclass(frozen=True, eq=False)
class Source:
    """An image that has not been read yet.

    Attributes:
        name: Absolute path; of a video's frame followed by ``#`` and its number, counted from 0; of an array
            ``array`` and its place in the list.
        stamp: Changes when the content does.
        read: Gives (H, W, 3) uint8 BGR, turned upright by EXIF, or raises ``DamagedImageError``. A frame can be read
            only until the next one is asked for.
    """

    name: str
    stamp: str
    read: Callable[[], np.ndarray]

    @property
    def orientation(self) -> int:
        """EXIF orientation of an image file, 1..8: how ``read`` turns it. 1, not at all, of arrays and frames."""
        return read_orientation(self.name)

    @property
    def file(self) -> str:
        """The image file, or the video of a frame."""
        return split_frame(self.name)[0]

    def time(self, video_start: float = 0.0) -> float | None:
        """Seconds: of a frame after ``video_start``, of a photograph since 1970, as its EXIF data say in local time.

        None if it is not known.
        """
        video, frame = split_frame(self.name)
        if frame is None:
            return photograph_time(self.name)
        rate = frame_rate(video)
        return video_start + frame / rate if rate > 0 else None


class Sources:
    """The images of some inputs, in order, each file once; they can be gone through several times.

    A folder stands for all images and videos below it, a pattern for those that fit it (``*``, ``?``, ``[abc]``, and
    ``**`` for folders of any depth; a part that exists by its very name, such as ``[cam 2]``, stands for itself; the
    suffix in upper or lower case). Both are in the order of their names, the files of a folder before its folders.
    Hidden files and folders are left out. Links to folders are followed, and each folder is entered once. The pictures
    that an inferencer wrote beside its ``results.json`` (``ranking.png``, ``vis``) are left out. ``len`` trusts the
    number of frames that a video's header claims.

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
        videos = [file for file in self.files if is_video(file)]
        frames = sum(count_frames(video, self.frame_stride) for video in videos)
        return len(self.arrays) + len(self.files) - len(videos) + frames

    def __iter__(self) -> Iterator[Source]:
        for name, image in self.arrays.items():
            yield Source(name, _array_stamp(image), partial(np.asarray, image))
        for file in self.files:
            video, frame = split_frame(file)
            stamp = _stamp(video)
            if frame is not None:
                yield Source(file, stamp, partial(read_frame, video, frame))
            elif is_video(file):
                for number, read in video_frames(file, self.frame_stride):
                    yield Source(f'{file}#{number}', stamp, read)
            else:
                yield Source(file, stamp, partial(decode_upright, file))

    def stamps(self) -> dict[str, str]:
        """Stamp of each image by name, without reading any; of a video the frames that its header claims."""
        stamps = {name: _array_stamp(image) for name, image in self.arrays.items()}
        for file in self.files:
            video, frame = split_frame(file)
            stamp = _stamp(video)
            names = [file]
            if frame is None and is_video(file):
                numbers = range(0, count_frames(file, self.frame_stride) * self.frame_stride, self.frame_stride)
                names = [f'{file}#{number}' for number in numbers]
            stamps |= dict.fromkeys(names, stamp)
        return stamps

    def named(self, names: Collection[str]) -> Iterator[Source]:
        """The images of these names, in the order of all; a video is decoded up to the last of them."""
        missing = set(names)
        for source in self if missing else ():
            if source.name in missing:
                yield source
                missing.remove(source.name)
                if not missing:
                    return

    def part(self, files: slice) -> 'Sources':
        """The same with some of the files, without arrays."""
        part = copy.copy(self)
        part.arrays, part.files = {}, self.files[files]
        return part


def stored_images(gallery: Gallery, names: Collection[str]) -> Iterator[Source]:
    """The images of a gallery whose files are here and as they were when the gallery got them."""
    files = {name: split_frame(name)[0] for name in names}
    stamps = {file: _stamp(file) for file in set(files.values()) if os.path.isfile(file)}
    here = {name for name, stamp in gallery.stamps(names).items() if stamps.get(files[name]) == stamp}
    if here:
        # A video as a whole: it is decoded once, however many of its frames are wanted.
        yield from Sources(sorted({files[name] for name in here})).named(here)


def _array_stamp(image: np.ndarray) -> str:
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()


def _require_image(image: np.ndarray) -> np.ndarray:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise UserError(f'an array must be (H, W, 3) of uint8 in BGR order, not {image.shape} of {image.dtype}')
    return image


def _files(name: str) -> list[str]:
    """Absolute paths of what a path or pattern stands for."""
    path = os.path.abspath(os.path.expanduser(name))
    if os.path.isfile(path):
        return [path]
    video, frame = split_frame(path)
    if frame is not None and os.path.isfile(video):
        return [f'{video}#{frame}']
    is_folder = os.path.isdir(path)
    root, *parts = Path(path, '**' if is_folder else '').parts
    found = _expand(root, parts)
    files = dict.fromkeys(file for file in found if file.lower().endswith(IMAGE_SUFFIXES) or is_video(file))
    if not files and is_folder:
        raise UserError(f'{name} holds no image or video, nor do the folders below it')
    if not files:
        raise UserError(f'{name}: there is no such file or folder, and no image or video that fits it as a pattern')
    return list(files)


def _expand(path: str, parts: list[str]) -> Iterator[str]:
    """Files at a path that is continued by the parts of a pattern."""
    if not parts:
        if os.path.isfile(path):
            yield path
    elif parts[0] == '**':
        for folder in _folders(path, set()):
            yield from _expand(folder, parts[1:] or ['*'])
    elif os.path.lexists(os.path.join(path, parts[0])):
        yield from _expand(os.path.join(path, parts[0]), parts[1:])
    elif os.path.isdir(path):
        pattern = _lower_suffix(parts[0])
        for name in _names(path):
            if fnmatch.fnmatchcase(_lower_suffix(name), pattern):
                yield from _expand(os.path.join(path, name), parts[1:])


def _lower_suffix(name: str) -> str:
    """A name that compares alike with ``.jpg`` and with ``.JPG``."""
    stem, suffix = os.path.splitext(name)
    return stem + suffix.lower()


def _folders(path: str, entered: set[str]) -> Iterator[str]:
    """A folder and all below it, each once whatever links lead to it."""
    if os.path.isdir(path) and os.path.realpath(path) not in entered:
        entered.add(os.path.realpath(path))
        yield path
        for name in _names(path):
            yield from _folders(os.path.join(path, name), entered)


def _names(folder: str) -> list[str]:
    """What is in a folder, in order; without hidden files and an inferencer's own pictures."""
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise UserError(f'{folder} cannot be read: {error.strerror}') from None
    pictures = ('ranking.png', 'vis') if 'results.json' in names else ()
    return sorted(name for name in names if not name.startswith('.') and name not in pictures)


def _stamp(file: str) -> str:
    stat = Path(file).stat()
    return f'{stat.st_size} bytes, {stat.st_mtime_ns} ns'


def read_one(image: Input) -> tuple[Source, np.ndarray]:
    """The one image that an input stands for, and its pixels.

    Raises:
        UserError: If it stands for several, or cannot be read.
    """
    sources = Sources(image)
    if len(sources) > 1:
        raise UserError(f'{image} stands for {len(sources)} images: give one, of a video a frame such as cam1.mp4#250')
    (source,) = sources
    return source, source.read()


def read_sources(sources: Iterable[Source], skipped: list[Skipped]) -> Iterator[tuple[Source, np.ndarray]]:
    """Read images, (H, W, 3) uint8 BGR each; those that cannot be read are added to ``skipped``."""
    for source in sources:
        try:
            image = source.read()
        except DamagedImageError as error:
            skipped.append(Skipped(source.name, str(error)))
        else:
            yield source, image


def batches(sources: Iterable[tuple[Source, np.ndarray]], size: int) -> Iterator[list[tuple[Source, np.ndarray]]]:
    """Join up to ``size`` images of one shape that follow each other."""
    for _, alike in groupby(sources, lambda source: source[1].shape):
        while batch := list(islice(alike, size)):
            yield batch


def require_some(found: Sequence, skipped: Sequence[Skipped]) -> None:
    """Refuse to go on where nothing could be read.

    Raises:
        UserError: If nothing was found.
    """
    if not found:
        raise UserError(f'none of the {len(skipped)} images can be read; the first: {skipped[0].reason}')


def count_frames(path: str, stride: int) -> int:
    """How many frames a video claims to have, every ``stride``-th counted; one if it cannot be opened."""
    return max(-(-_claimed(_open(path)) // stride), 1)


def video_frames(path: str, stride: int) -> Iterator[tuple[int, Callable[[], np.ndarray]]]:
    """Every ``stride``-th frame of a video, from the first on.

    Frames that are not read cost their decoding alone; jumping is not exact in all formats.

    Args:
        path: The file.
        stride: At least 1.

    Yields:
        Number, counted from 0, and a function that reads the frame, (H, W, 3) uint8 BGR. It raises
        ``DamagedImageError`` for the first frame if nothing can be read, and for the first one that is missing if the
        video ends before the length it claims.
    """
    video = _open(path)
    claimed, number = _claimed(video), 0
    while video.grab():
        if number % stride == 0:
            yield number, partial(_retrieve, video, path, number)
        number += 1
    if number == 0:
        yield 0, partial(_fail, f'{path} cannot be read as a video: it is damaged, empty or of an unknown format')
    elif number < claimed:
        yield number, partial(_fail, f'{path} ends early: {number} of the {claimed} frames it claims can be read')


def read_frame(path: str, number: int) -> np.ndarray:
    """One frame of a video, (H, W, 3) uint8 BGR; the frames before it are decoded, too.

    Raises:
        DamagedImageError: If the video does not have it, or it cannot be decoded.
    """
    for last, read in video_frames(path, 1):
        if last == number:
            return read()
    _fail(f'{path} has no frame {number}: its last one is {last}, counted from 0')


def read_time(text: str) -> float:
    """Seconds since 1970, from a number or from ISO 8601 without time zone, as of :func:`photograph_time`."""
    try:
        return float(text)
    except ValueError:
        return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()


@cache
def frame_rate(path: str) -> float:
    """Frames a second by the header of a video; 0 where it does not say."""
    return _open(path).get(cv2.CAP_PROP_FPS)


def photograph_time(path: str) -> float | None:
    """When a photograph was taken: seconds since 1970 in the camera's local time; None if its EXIF data do not say."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of damaged EXIF data; they name no file
        try:
            with Image.open(path) as image:
                exif = image.getexif()
                text = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal)
            return datetime.strptime(text, '%Y:%m:%d %H:%M:%S').replace(tzinfo=timezone.utc).timestamp()
        except Exception:  # Pillow raises many kinds for files that others can read
            return None


def _open(path: str) -> cv2.VideoCapture:
    # FFmpeg's own messages name no file. It reads this when the first video is opened.
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
    return cv2.VideoCapture(path)


def _claimed(video: cv2.VideoCapture) -> int:
    """Frames by the file's header; 0 where it does not say."""
    return max(int(video.get(cv2.CAP_PROP_FRAME_COUNT)), 0)


def _retrieve(video: cv2.VideoCapture, path: str, number: int) -> np.ndarray:
    decoded, image = video.retrieve()
    if not decoded:
        _fail(f'{path}: frame {number} cannot be decoded')
    return image


def _fail(message: str) -> None:
    raise DamagedImageError(message)
