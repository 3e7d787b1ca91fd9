"""What a gallery stores of an image, and the conditions of a search."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

VIDEO_SUFFIXES = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg')

COLUMNS = ('image', 'number', 'stamp', 'camera', 'time', 'score_thr', 'box', 'score', 'embedding')
"""Columns of a detection. An image without detections has one row, whose box, score and embedding are null."""

READ_ONLY = 'it is read-only: searching works, writing does not'
DISK_FULL = 'the disk is full: make room, then start again'
"""Why a folder cannot be written."""


@dataclass(frozen=True, eq=False)
class Detections:
    """The persons that a model detected in one or several images.

    Attributes:
        boxes: (N, 4) float32, x1, y1, x2, y2 in original pixels.
        scores: (N,) float32 in 0..1.
        embeddings: (N, D) float32 of unit length.
    """

    boxes: np.ndarray
    scores: np.ndarray
    embeddings: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, which: np.ndarray | slice) -> 'Detections':
        """Those that an index array, a mask or a slice picks."""
        return Detections(self.boxes[which], self.scores[which], self.embeddings[which])


@dataclass(frozen=True, eq=False)
class GalleryImage:
    """An image of a gallery with all of its detections.

    Attributes:
        name: Absolute path; of a video's frame followed by ``#`` and its number.
        stamp: Changes when the content does.
        detections: N detections; N may be 0.
        camera: Name of the camera; empty if it is not known.
        time: Seconds: of a photograph since 1970 in the camera's local time, of a frame since the start of its video
            or since 1970; None if it is not known.
    """

    name: str
    stamp: str
    detections: Detections
    camera: str = ''
    time: float | None = None


def is_video(file: str) -> bool:
    """Whether a file is a video, by its suffix."""
    return file.lower().endswith(VIDEO_SUFFIXES)


def split_frame(name: str) -> tuple[str, int | None]:
    """A video and the number of a frame, from a name such as ``cam1.mp4#250``; any other name and None."""
    video, _, number = name.rpartition('#')
    return (video, int(number)) if is_video(video) and number.isdecimal() else (name, None)


@dataclass(frozen=True)
class Filter:
    """Conditions that a detection must fulfil, all of them; None: there is no such condition.

    Attributes:
        camera: One camera or several.
        after: ``time`` at least.
        before: ``time`` less than this.
        images: Only these.
        not_images: None of these.
        score_thr: Score at least.
    """

    camera: Collection[str] | None = None
    after: float | None = None
    before: float | None = None
    images: Collection[str] | None = None
    not_images: Collection[str] | None = None
    score_thr: float | None = None


@dataclass(frozen=True, eq=False)
class Rows:
    """N detections and the images that they are in.

    Attributes:
        images: (N,) names, objects of type str.
        numbers: (N,) int64, places in the image, counted from 0.
        cameras: (N,) str objects.
        times: (N,) float64 seconds, NaN if they are not known.
        detections: N.
    """

    images: np.ndarray
    numbers: np.ndarray
    cameras: np.ndarray
    times: np.ndarray
    detections: Detections

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, which: np.ndarray | slice) -> 'Rows':
        """Those that an index array, a mask or a slice picks."""
        return Rows(
            self.images[which],
            self.numbers[which],
            self.cameras[which],
            self.times[which],
            self.detections[which],
        )
