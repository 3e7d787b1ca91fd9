"""The official CUHK-SYSU layout."""

from pathlib import Path

import numpy as np

from . import mat5
from .plan import ANNOTATION, ImageRecord, PersonBox, scenes_by_identity, stream
from .sizes import DatasetSize

IMAGE_FOLDER = Path('Image/SSM')
VERSION = 1  # raised whenever the same settings would give other files
GALLERY_SIZES = (50, 100, 500, 1000, 2000, 4000)
_HARD_BELOW = 0.7  # visible fraction under which a box is marked as hard
_SCENE = ('imname', 'idlocate', 'ishard')
_NOTHING = mat5.numbers(np.zeros((1, 0)))  # how the real files say "not in this gallery image"


def image_names(size: DatasetSize, seed: int) -> list[str]:
    """Names s1.jpg, s2.jpg, ... of all images, training and test numbers mixed as in the real dataset."""
    count = size.train.images + size.test.images
    return [f's{number + 1}.jpg' for number in stream(seed, ANNOTATION).permutation(count)]


def site_of(name: str) -> None:
    """No two images share a place: the real ones are street snaps and film frames."""


def write_annotations(root: Path, records: list[ImageRecord], size: DatasetSize, seed: int) -> None:
    """Write Images.mat, Person.mat, pool.mat, Train.mat and TestG*.mat under ``root/annotation``."""
    folder = root / 'annotation'
    protocols = folder / 'test/train_test'
    protocols.mkdir(parents=True, exist_ok=True)
    train, test = scenes_by_identity(records, 'train'), scenes_by_identity(records, 'test')
    pool = [record.name for record in records if record.split == 'test']
    _write_images(folder / 'Images.mat', records)
    people = [piece for pid, scenes in (train | test).items() for piece in _person(pid, scenes)]
    person = mat5.structs(('idname', 'nAppear', 'scene'), people, (1, len(train) + len(test)), 'Person')
    mat5.save(folder / 'Person.mat', person)
    mat5.save(folder / 'pool.mat', mat5.cells([mat5.char(name) for name in pool], (len(pool), 1), 'pool'))
    cells = [
        b''.join(mat5.structs(('idname', 'nAppear', 'scene'), _person(pid, scenes), (1, 1)))
        for pid, scenes in train.items()
    ]
    mat5.save(protocols / 'Train.mat', mat5.cells(cells, (len(cells), 1), 'Train'))
    for gallery_size in gallery_sizes(len(pool)):
        _write_protocol(protocols / f'TestG{gallery_size}.mat', test, pool, gallery_size, seed)


def gallery_sizes(test_images: int) -> list[int]:
    """Official gallery sizes that the test images allow.

    50 and 100, which every reader asks for, are always written; with too few test images they list all of them but the
    query's own.
    """
    return [size for size in GALLERY_SIZES if size <= 100 or size < test_images]


def _write_images(path: Path, records: list[ImageRecord]) -> None:
    values = []
    for record in sorted(records, key=lambda record: int(record.name[1:-4])):
        boxes = [_location(box) for box in record.boxes]
        box = mat5.structs(('idlocate', 'ishard'), boxes, (1, len(boxes)))
        values += [mat5.char(record.name), mat5.numbers(np.array([[len(boxes)]])), *box]
    mat5.save(path, mat5.structs(('imname', 'nAppear', 'box'), values, (1, len(records)), 'Img'))


def _write_protocol(path: Path, test: dict, pool: list[str], gallery_size: int, seed: int) -> None:
    rng = stream(seed, ANNOTATION, 1)
    entries = {name: mat5.char(name) + _NOTHING + _NOTHING for name in pool}
    values = []
    for pid, scenes in test.items():
        query_name, query_box = max(scenes, key=lambda scene: scene[1].visible)
        own = {name for name, _ in scenes}
        true = [mat5.char(name) + _location(box) for name, box in scenes if name != query_name]
        others = [entries[pool[i]] for i in rng.permutation(len(pool)) if pool[i] not in own]
        gallery = (true + others)[:gallery_size]
        query = mat5.char(query_name) + _location(query_box) + mat5.char(f'p{pid + 1}')
        values += mat5.structs((*_SCENE, 'idname'), [query], (1, 1))
        values += mat5.structs(_SCENE, gallery, (1, len(gallery)))
    mat5.save(path, mat5.structs(('Query', 'Gallery'), values, (1, len(test)), path.stem))


def _person(pid: int, scenes: list[tuple[str, PersonBox]]) -> list[bytes]:
    rows = [mat5.char(name) + _location(box) for name, box in scenes]
    scene = mat5.structs(_SCENE, rows, (1, len(rows)))
    return [mat5.char(f'p{pid + 1}'), mat5.numbers(np.array([[len(rows)]])), *scene]


def _location(box: PersonBox) -> bytes:
    hard = int(box.visible < _HARD_BELOW)
    return mat5.numbers(np.array([box.xywh])) + mat5.numbers(np.array([[hard]]))
