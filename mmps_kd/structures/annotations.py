"""Annotations of a data set as flat arrays, and the rules for the image names in them."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from mmps_kd.errors import UserError

from .evaluation_data import GroundTruth

UNLABELLED = -1
"""Person id of a box without an identity."""
LONGEST_NAME = 255 - len('.jpg.mat')  # bytes, the limit of file systems; PRW appends .mat to a frame's name
LONGEST_PATH = 1000
CONTROL_CHARACTERS = re.compile('[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')
"""Control characters, line breaks, and halves of surrogate pairs."""
_DRIVE = re.compile('[A-Za-z]:')


@dataclass(frozen=True, eq=False)
class Annotations:
    """Annotated boxes of N images, M in all.

    Attributes:
        image_names: (N,) str, each name once, as the annotation files write it.
        num_boxes: (N,) int64, boxes in each image.
        boxes: (M, 4) float64, x1, y1, x2, y2 in original pixels, images concatenated in order.
        pids: (M,) int64, identity in the numbering of the annotation files, -1 unlabelled.
        image_sizes: (N, 2) int64, height and width; 0 where an image's is not given, None where no image's is.
        ignored: (M,) bool, regions that are no single person, as COCO's ``iscrowd``; their pid is -1. By default there
            are none.
        cameras: (N,) str, camera of each image, empty where it is not given; None where no image's is.
        notes: What the reader left out, one line each.
    """

    image_names: np.ndarray
    num_boxes: np.ndarray
    boxes: np.ndarray
    pids: np.ndarray
    image_sizes: np.ndarray | None = None
    ignored: np.ndarray | None = None
    cameras: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Fill in ``ignored``."""
        if self.ignored is None:
            object.__setattr__(self, 'ignored', np.zeros(len(self.boxes), dtype=bool))

    @property
    def image_of_box(self) -> np.ndarray:
        """(M,) int64, index of the image that a box lies in."""
        return np.repeat(np.arange(len(self.image_names)), self.num_boxes)

    def of_images(self, mask: np.ndarray) -> 'Annotations':
        """Keep the images where ``mask`` (N,) is true."""
        return replace(
            self.of_boxes(mask[self.image_of_box]),
            image_names=self.image_names[mask],
            num_boxes=self.num_boxes[mask],
            image_sizes=None if self.image_sizes is None else self.image_sizes[mask],
            cameras=None if self.cameras is None else self.cameras[mask],
        )

    def of_boxes(self, mask: np.ndarray) -> 'Annotations':
        """Keep the boxes where ``mask`` (M,) is true, and all images."""
        return replace(
            self,
            num_boxes=np.bincount(self.image_of_box[mask], minlength=len(self.image_names)),
            boxes=self.boxes[mask],
            pids=self.pids[mask],
            ignored=self.ignored[mask],
        )

    def without_empty_boxes(self) -> 'Annotations':
        """Drop the boxes of zero width or height."""
        return self.of_boxes((self.boxes[:, 2:] > self.boxes[:, :2]).all(axis=1))

    def single_image_pids(self) -> np.ndarray:
        """Identities that appear in one image only, ascending (n,) int64."""
        appearances = np.unique(np.stack([self.pids, self.image_of_box]), axis=1)[0]
        pids, num_images = np.unique(appearances[appearances >= 0], return_counts=True)
        return pids[num_images == 1]

    def ground_truth(self) -> GroundTruth:
        """The ground truth of detection."""
        boxes = self.without_empty_boxes()
        persons, regions = boxes.of_boxes(~boxes.ignored), boxes.of_boxes(boxes.ignored)
        return GroundTruth(
            persons.image_names,
            persons.num_boxes,
            persons.boxes,
            persons.pids >= 0,
            ignored_images=regions.image_of_box,
            ignored_boxes=regions.boxes,
        )

    def validate(self, source: str) -> 'Annotations':
        """Return the annotations if each image name is valid and listed once, and all boxes are finite.

        Args:
            source: File that they were read from, for messages.

        Raises:
            UserError: Naming the first wrong entry.
        """
        names = self.image_names.tolist()
        validate_image_names(names, source)
        if len(set(names)) < len(names):
            name, times = Counter(names).most_common(1)[0]
            raise UserError(f'{source} lists image {name} {times} times: list each image once')
        wrong = np.flatnonzero(~np.isfinite(self.boxes).all(axis=1))
        if len(wrong):
            image = names[self.image_of_box[wrong[0]]]
            raise UserError(f'{source}: a box of {image} is not finite: correct or remove it')
        return self

    def with_sizes(self, sizes: np.ndarray) -> 'Annotations':
        """Set the image sizes to those of the image files.

        Args:
            sizes: (N, 2) int64, height and width of the files.

        Raises:
            UserError: If ``image_sizes`` differ: the boxes then refer to other pixels.
        """
        messages = []
        given = sizes if self.image_sizes is None else np.where(self.image_sizes > 0, self.image_sizes, sizes)
        for image in np.flatnonzero((given != sizes).any(axis=1)):
            (height, width), (given_height, given_width) = sizes[image].tolist(), given[image].tolist()
            turned = (given_height, given_width) == (width, height)
            messages.append(
                f'{self.image_names[image]} has {width}x{height} pixels, its annotation says '
                f'{given_width}x{given_height}'
                f'{"; boxes are in pixels as stored, not as turned by EXIF" if turned else ""}'
                ': annotate the file as it is stored, or correct width and height'
            )
        if messages:
            raise UserError(*messages)
        return replace(self, image_sizes=sizes)

    def find_box_faults(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compare the boxes with their images; needs ``image_sizes``.

        Returns:
            Three masks (M,) bool, no box being in two of them: boxes without width or height; boxes outside their
            image; boxes that are partly outside.
        """
        limits = self.image_sizes[self.image_of_box][:, ::-1]  # (M, 2) width, height
        first, last = self.boxes[:, :2], self.boxes[:, 2:]
        empty = (last <= first).any(axis=1)
        outside = ((first >= limits) | (last <= 0)).any(axis=1) & ~empty
        overhanging = ((first < 0) | (last > limits)).any(axis=1) & ~empty & ~outside
        return empty, outside, overhanging

    def clip_boxes(self) -> 'Annotations':
        """Clip the boxes to their images, and drop those that are empty then; needs ``image_sizes``."""
        limits = np.tile(self.image_sizes[self.image_of_box][:, ::-1], 2)  # (M, 4)
        return replace(self, boxes=self.boxes.clip(0, limits)).without_empty_boxes()

    def find_outside(self, image_names: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Which boxes (Q, 4) in images (Q,) of this set are empty or outside, (Q,) bool; needs ``image_sizes``."""
        index = {name: i for i, name in enumerate(self.image_names.tolist())}
        limits = self.image_sizes[[index[name] for name in image_names.tolist()]][:, ::-1]
        first, last = boxes[:, :2], boxes[:, 2:]
        return ~((last > first) & (first < limits) & (last > 0)).all(axis=1)


def corners(boxes: np.ndarray) -> np.ndarray:
    """Turn boxes (N, 4) from x, y, w, h into x1, y1, x2, y2."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def validate_image_names(names: Iterable[str], source: str) -> None:
    """Raise :class:`UserError` for the first name with a fault, see :func:`find_name_fault`."""
    for name in names:
        if fault := find_name_fault(name):
            raise UserError(f'{source} names {fault}')


def find_name_fault(name: str) -> str | None:
    """Check that a file of this name can exist, and that it lies inside the image folder.

    Annotation files come from any system: drive letters and Windows' separators are checked too. Symbolic links inside
    the folder are allowed, since the owner of the disk made them. Spaces and invisible letters are allowed.

    Returns:
        The shortened name with what is wrong, for a message; None for a valid name.
    """
    shown = repr(name if len(name) <= 60 else f'{name[:30]}...')
    if CONTROL_CHARACTERS.search(name):
        return f'{shown}, which holds a control character or is no valid Unicode: rename the file'
    path = PurePosixPath(name.replace('\\', '/'))
    if path.is_absolute() or _DRIVE.match(name) or '..' in path.parts or not path.name:
        return f'{shown}: names are relative to the image folder and stay inside it'
    if len(name) > LONGEST_PATH or max(len(os.fsencode(part)) for part in path.parts) > LONGEST_NAME:
        return f'{shown}, which is too long for a file'
    return None


def name_in_folder(name: str, folder: str | os.PathLike | None = None) -> str:
    r"""Write an image name as the file in the image folder has it.

    ``//`` and ``./`` are removed. Windows' ``\`` becomes ``/``, unless the folder has a file whose name really
    contains it. A name that the folder has in another Unicode normal form only is written in that form: macOS and Linux
    differ.

    Args:
        name: Relative to the folder.
        folder: The image folder; None if it is not known.
    """

    def exists(candidate: str) -> bool:
        return folder is not None and os.path.exists(os.path.join(folder, candidate))

    if '\\' in name and not exists(name):
        name = name.replace('\\', '/')
    name = PurePosixPath(name).as_posix()
    if not name.isascii() and not exists(name):
        forms = (unicodedata.normalize(form, name) for form in ('NFC', 'NFD'))
        name = next(filter(exists, forms), name)
    return name


def near_name(name: str, names: Iterable[str]) -> str:
    """`` (there is ...)`` for a message, with the first of ``names`` that differs in spelling only, or ''.

    Spelling: case, Unicode normal form, separators, ``./``.
    """
    key = _fold_name(name)
    near = next((other for other in names if _fold_name(other) == key), None)
    return '' if near is None else _there_is(name, near)


def near_files(folder: Path, names: Sequence[str]) -> list[str]:
    """For missing files, what :func:`near_name` gives for the files in ``folder``."""
    listings = {}

    def near(name: str) -> str:
        found = folder
        for part in PurePosixPath(name.replace('\\', '/')).parts:
            if found not in listings:
                entries = os.listdir(found) if found.is_dir() else []
                listings[found] = {_fold_name(entry): entry for entry in sorted(entries, reverse=True)}
            entry = part if (found / part).exists() else listings[found].get(_fold_name(part))
            if entry is None:
                return ''
            found = found / entry
        return _there_is(name, found.relative_to(folder).as_posix())

    return [near(name) for name in names]


def _fold_name(name: str) -> str:
    return unicodedata.normalize('NFC', PurePosixPath(name.replace('\\', '/')).as_posix()).casefold()


def _there_is(name: str, near: str) -> str:
    # Names in two normal forms look alike: say so.
    same = unicodedata.normalize('NFC', name) == unicodedata.normalize('NFC', near)
    return f' (there is {near!r}{", in another Unicode normal form" if same else ""})'
