"""Frames of a video file."""

import os
from collections.abc import Callable, Iterator
from functools import partial

import cv2
import numpy as np

from mmps_kd.datasets.image_files import DamagedImageError


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
