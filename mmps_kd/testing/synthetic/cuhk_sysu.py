"""The official CUHK-SYSU layout."""

from pathlib import Path

import numpy as np

from . import mat5
from .plan import ANNOTATION, DatasetSize, ImageRecord, PersonBox, boxes_by_identity, generator

IMAGE_FOLDER = Path('Image/SSM')
VERSION = 1  # raised whenever the same settings would give other files
GALLERY_SIZES = (50, 100, 500, 1000, 2000, 4000)
_HARD_BELOW = 0.7  # visible fraction below which a box is marked as hard
_PERSON, _LOCATION = ('idname', 'nAppear', 'scene'), ('imname', 'idlocate', 'ishard')
_NOTHING = mat5.numbers(np.zeros((1, 0)))  # in the real files: the person is not in this gallery image


def image_names(size: DatasetSize, seed: int) -> list[str]:
    """Names s1.jpg, s2.jpg, ... of all images, training and test numbers mixed as in the real data set."""
    count = size.train.images + size.test.images
    return [f's{number + 1}.jpg' for number in generator(seed, ANNOTATION).permutation(count)]


def place_of(name: str) -> None:
    """No two images share a place: the real ones are street snaps and film frames."""


def write_annotations(root: Path, records: list[ImageRecord], size: DatasetSize, seed: int) -> None:
    """Write Images.mat, Person.mat, pool.mat, Train.mat and TestG*.mat under ``root/annotation``."""
    folder = root / 'annotation'
    protocols = folder / 'test/train_test'
    protocols.mkdir(parents=True, exist_ok=True)
    train, test = boxes_by_identity(records, 'train'), boxes_by_identity(records, 'test')
    pool = [record.name for record in records if record.split == 'test']

    images = []
    for record in sorted(records, key=lambda record: int(record.name[1:-4])):
        boxes = mat5.structs(('idlocate', 'ishard'), [_location(box) for box in record.boxes], (1, len(record.boxes)))
        images += [mat5.char(record.name), mat5.numbers(np.array([[len(record.boxes)]])), *boxes]
    mat5.save(folder / 'Images.mat', mat5.structs(('imname', 'nAppear', 'box'), images, (1, len(records)), 'Img'))

    persons = {}
    for pid, found in (train | test).items():
        scenes = mat5.structs(_LOCATION, [mat5.char(name) + _location(box) for name, box in found], (1, len(found)))
        persons[pid] = b''.join([mat5.char(f'p{pid + 1}'), mat5.numbers(np.array([[len(found)]])), *scenes])
    mat5.save(folder / 'Person.mat', mat5.structs(_PERSON, list(persons.values()), (1, len(persons)), 'Person'))
    mat5.save(folder / 'pool.mat', mat5.cells([mat5.char(name) for name in pool], (len(pool), 1), 'pool'))
    cells = [b''.join(mat5.structs(_PERSON, [persons[pid]], (1, 1))) for pid in train]
    mat5.save(protocols / 'Train.mat', mat5.cells(cells, (len(cells), 1), 'Train'))

    for gallery_size in GALLERY_SIZES:
        # Every reader asks for 50 and 100: with fewer test images they list all of them but the query's own.
        if gallery_size <= 100 or gallery_size < len(pool):
            _write_protocol(protocols / f'TestG{gallery_size}.mat', test, pool, gallery_size, seed)


def _write_protocol(path: Path, test: dict, pool: list[str], gallery_size: int, seed: int) -> None:
    """Write a query for each test identity, its most visible box, and the gallery, images of the person first."""
    rng = generator(seed, ANNOTATION, 1)
    entries = {name: mat5.char(name) + _NOTHING + _NOTHING for name in pool}
    values = []
    for pid, found in test.items():
        query_name, query_box = max(found, key=lambda item: item[1].visible)
        own = {name for name, _ in found}
        true = [mat5.char(name) + _location(box) for name, box in found if name != query_name]
        others = [entries[pool[i]] for i in rng.permutation(len(pool)) if pool[i] not in own]
        gallery = (true + others)[:gallery_size]
        query = mat5.char(query_name) + _location(query_box) + mat5.char(f'p{pid + 1}')
        values += mat5.structs((*_LOCATION, 'idname'), [query], (1, 1))
        values += mat5.structs(_LOCATION, gallery, (1, len(gallery)))
    mat5.save(path, mat5.structs(('Query', 'Gallery'), values, (1, len(test)), path.stem))


def _location(box: PersonBox) -> bytes:
    return mat5.numbers(np.array([box.xywh])) + mat5.numbers(np.array([[int(box.visible < _HARD_BELOW)]]))
