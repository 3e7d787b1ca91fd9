"""The official PRW layout."""

from pathlib import Path

import numpy as np

from mmps_kd.structures import UNLABELLED

from . import mat5
from .plan import ANNOTATION, DatasetSize, ImageRecord, PersonBox, boxes_by_identity, generator

IMAGE_FOLDER = Path('frames')
VERSION = 2  # raised whenever the same settings would give other files
CAMERAS = 6
_UNLABELLED_PID = -2
_FRAMES_APART = 25
# The real annotation files name their boxes in three ways; readers must take whichever is there.
_BOX_KEYS = ('box_new', 'box_new', 'box_new', 'anno_file', 'anno_previous')


def image_names(size: DatasetSize, seed: int) -> list[str]:
    """Names c{camera}s{sequence}_{frame}.jpg: each camera films in turn, sequence 1 to train and 2 to test."""
    return [
        f'c{index % CAMERAS + 1}s{sequence}_{1 + index // CAMERAS * _FRAMES_APART:06d}.jpg'
        for sequence, split in ((1, size.train), (2, size.test))
        for index in range(split.images)
    ]


def place_of(name: str) -> int:
    """The camera that took a frame, 1..6: a fixed place."""
    return int(name[1])


def write_annotations(root: Path, records: list[ImageRecord], size: DatasetSize, seed: int) -> None:
    """Write annotations/*.jpg.mat, frame_*.mat, ID_*.mat and query_info.txt under ``root``."""
    (root / 'annotations').mkdir(exist_ok=True)
    # Person ids 1..count+1 with one left out, train and test mixed: the real 932 persons have ids to 933 with a gap.
    count, rng = size.train.identities + size.test.identities, generator(seed, ANNOTATION)
    ids = np.delete(np.arange(1, count + 2), rng.integers(1, count))
    pids = {UNLABELLED: _UNLABELLED_PID, **dict(enumerate(rng.permutation(ids).tolist()))}
    for index, record in enumerate(records):
        boxes = np.array([(pids[box.identity], *_with_fractions(box)) for box in record.boxes], float).reshape(-1, 5)
        key = _BOX_KEYS[index % len(_BOX_KEYS)]
        mat5.save(root / 'annotations' / f'{record.name}.mat', [mat5.numbers(boxes, key)])
    for split, id_key in (('train', 'ID_train'), ('test', 'ID_test2')):
        frames = [mat5.char(Path(record.name).stem) for record in records if record.split == split]
        mat5.save(root / f'frame_{split}.mat', mat5.cells(frames, (len(frames), 1), f'img_index_{split}'))
        ids = sorted(pids[identity] for identity in boxes_by_identity(records, split))
        mat5.save(root / f'ID_{split}.mat', [mat5.numbers(np.array([ids]), id_key)])

    # Queries: of each identity one box of each camera first, then a second of each, and so on.
    ranked = []
    for identity, found in boxes_by_identity(records, 'test').items():
        seen = [0] * (CAMERAS + 1)  # boxes so far, by camera
        turns = []
        for name, box in found:
            turns.append((seen[place_of(name)], (pids[identity], *_with_fractions(box), Path(name).stem)))
            seen[place_of(name)] += 1
        turns.sort(key=lambda item: item[0])
        ranked += [(rank, *query) for rank, (_, query) in enumerate(turns)]
    chosen = sorted(sorted(ranked)[: size.queries], key=lambda query: query[1:])
    # As bytes, with the official file's line ends: readers cut the last two characters of every line.
    lines = [f'{pid} {x:.4f} {y:.4f} {w:.4f} {h:.4f} {frame}\r\n' for _, pid, x, y, w, h, frame in chosen]
    (root / 'query_info.txt').write_bytes(''.join(lines).encode())


def _with_fractions(box: PersonBox) -> tuple[float, float, int, int]:
    """A box with fractions, as in the real files; cut to whole pixels, as readers do, it is the exact one.

    No position is whole: an array of whole numbers alone would be read as small integers, in which readers that add
    width to x would overflow.
    """
    x, y, w, h = box.xywh
    return round(x + (1 + w * 31 % 97) / 100, 2), round(y + (1 + h * 43 % 89) / 100, 2), w, h
