"""Reading PRW: one MATLAB file a frame, or the same people as one JSON a split."""

import re
from pathlib import Path

import numpy as np

from mmps_kd.datasets.cache import cached
from mmps_kd.errors import UserError
from mmps_kd.image_names import name_in_folder

from .coco_json import read_coco_json
from .matlab import load_mat, reading, require_file, texts
from .soundness import require_inside, sound
from .structures import Annotations, corners

_IMAGE_SUFFIX = re.compile(r'\.(jpe?g|png|bmp|tiff?|webp|p[gp]m)$', re.IGNORECASE)
_BOX_KEYS = ('box_new', 'anno_file', 'anno_previous')


def read_prw(root: Path, split: str) -> Annotations:
    """Frames and people of a split.

    Where ``frame_{split}.mat`` is missing and ``prw_{split}_pid.json`` is there, the JSON is read.

    Args:
        root: PRW's folder.
        split: 'train' or 'test'.

    Raises:
        UserError: If a file is missing or damaged.
    """
    frame_list, json_file = root / f'frame_{split}.mat', root / f'prw_{split}_pid.json'
    if json_file.is_file() and not frame_list.is_file():
        return read_coco_json(json_file)[0]
    return _read_frames(root, frame_list, f'img_index_{split}')


def read_queries(path: Path, image_folder: Path | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read a query list: lines ``pid x y w h frame``; ``.jpg`` is added to a name without an image's extension.

    Args:
        path: The list.
        image_folder: Where the frames are, see :func:`~mmps_kd.image_names.name_in_folder`; None: not known.

    Returns:
        Frame names with extension (Q,) str, boxes (Q, 4) float64 as x1, y1, x2, y2, and identities (Q,) int64.
        The corners are cut to whole pixels inside the frame, as the public codebases read them.

    Raises:
        UserError: If the file is missing or a line is of another form.
    """
    require_file(path)
    with reading(path):
        # Not splitlines: names may contain any space but the line feed.
        lines = path.read_text(encoding='utf-8').split('\n')
    rows = [_parse_query(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise UserError(f'{path} lists no query; each line reads: pid x y w h frame')
    frames, boxes, pids = zip(*rows, strict=True)
    require_inside(frames, str(path))
    frames = [name_in_folder(frame, image_folder) for frame in frames]
    return np.array(frames), np.trunc(corners(np.array(boxes))).clip(0), np.array(pids)


def camera_of(frames: np.ndarray) -> np.ndarray:
    """Camera numbers (N,) int64 of frames named like ``c1s3_016471.jpg``.

    Raises:
        UserError: If a name does not begin with c and a number.
    """
    matches = [re.match(r'c(\d+)', Path(frame).name) for frame in frames]
    if None in matches:
        frame = frames[matches.index(None)]
        raise UserError(f'{frame}: the name does not say the camera; PRW frames are named like c1s3_016471.jpg')
    return np.array([int(match[1]) for match in matches])


def _parse_query(path: Path, number: int, line: str) -> tuple[str, list[float], int]:
    line = line.strip(' \t\r')
    try:
        pid, *box, frame = line.split(maxsplit=5)
        x, y, w, h = map(float, box)
        return frame if _IMAGE_SUFFIX.search(frame) else f'{frame}.jpg', [x, y, w, h], int(pid)
    except ValueError:
        raise UserError(f'{path}, line {number}: expected "pid x y w h frame", got "{line}"') from None


def _read_frames(root: Path, frame_list: Path, key: str) -> Annotations:
    names = load_mat(frame_list, key)
    with reading(frame_list):
        frames = [f'{name}.jpg' for name in texts(names).tolist()]
    require_inside(frames, str(frame_list))
    frames = [name_in_folder(frame) for frame in frames]
    files = [root / 'annotations' / f'{frame}.mat' for frame in frames]
    for file in files:
        require_file(file)
    arrays = cached(f'prw-{frame_list.stem}', [frame_list, *files], lambda: _parse_frames(files))
    return sound(Annotations(np.array(frames), **arrays), str(frame_list))


def _parse_frames(files: list[Path]) -> dict[str, np.ndarray]:
    people = [_parse_frame(file) for file in files]
    rows = np.concatenate(people)
    # Negative positions are set to 0 before the size is added, and corners cut to whole pixels, as the public
    # codebases do: evaluation has to use the same boxes.
    boxes = np.trunc(corners(rows[:, 1:].clip(0)))
    pids = np.where(rows[:, 0] < 0, -1, rows[:, 0]).astype(np.int64)
    return dict(num_boxes=np.array([len(p) for p in people]), boxes=boxes, pids=pids)


def _parse_frame(file: Path) -> np.ndarray:
    variable = load_mat(file, *_BOX_KEYS)
    with reading(file):
        return np.zeros((0, 5)) if variable is None else variable.astype(np.float64).reshape(len(variable), 5)
