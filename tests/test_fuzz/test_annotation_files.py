"""Mutated annotation files: MATLAB, JSON and text."""

import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from mmps_kd.datasets import CUHKSYSUDataset, CustomPersonSearchDataset, PRWDataset
from mmps_kd.testing.synthetic import write_dataset

ROUNDS = [pytest.param(12, id='some'), pytest.param(110, id='many', marks=pytest.mark.slow)]
MAT_HEADER = 128
CUHK_FILES = ['Images.mat', 'pool.mat', 'test/train_test/Train.mat', 'test/train_test/TestG100.mat']
ODD = [
    *(np.zeros((0, 0)), np.zeros((0, 4)), np.zeros((3, 4)), np.array([[np.nan] * 4]), np.array([[np.inf, 0, 1, 1]])),
    *(np.array([[-5, -5, 2**31, 2]]), np.array([['s1.jpg']], object), np.array([[1.5]]), np.array([[1 + 2j]])),
    *(np.array([[True]]), np.array([[np.zeros((1, 1))] * 3], object), np.ones((2, 2, 2)), 'x', '', '../../etc/passwd'),
    *('/etc/passwd', 'a\nb', 'x' * 5000, {'idlocate': 1}, {'other': 'field'}, np.zeros((1, 4), np.uint8)),
]
ODD_JSON = [
    *(None, True, -1, 0, 1.5, 2**31, 2**70, -(2**70), 1e400, float('nan'), '', 'x', '../x.jpg', '/etc/passwd', 'a\nb'),
    *([], [1], [[]], [1, 2, 3, 4], ['a'] * 4, [1e308] * 4, [float('nan')] * 4, {}, {'id': 1}, 'x' * 3000, '\x1b[2J'),
]


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'file/cannot-be-made'))


@pytest.fixture(scope='module')
def cuhk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('fuzz') / 'cuhk-sysu'
    write_dataset(root, 'cuhk-sysu', 'tiny')
    for name in CUHK_FILES:
        path = root / 'annotation' / name
        path.write_bytes(plain(path.read_bytes()))
    return root


@pytest.fixture(scope='module')
def prw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('fuzz') / 'prw'
    write_dataset(root, 'prw', 'tiny')
    for path in root.rglob('*.mat'):
        path.write_bytes(plain(path.read_bytes()))
    return root


@pytest.fixture
def custom(tmp_path: Path) -> Path:
    images = [dict(id=i, file_name=f'{i}.jpg', height=60, width=80) for i in range(4)]
    people = [dict(id=i, image_id=i % 4, bbox=[i, i, 10, 20], person_id=i // 4 - 1) for i in range(12)]
    content = dict(images=images, annotations=people, queries=[dict(annotation_id=4)])
    (tmp_path / 'people.json').write_text(json.dumps(content))
    (tmp_path / 'images').mkdir()
    for image in images:
        cv2.imwrite(str(tmp_path / 'images' / image['file_name']), np.zeros((60, 80, 3), np.uint8))
    (tmp_path / 'queries.txt').write_text('0 4 4 10 20 0.jpg\n1 8 8 10 20 0\n')
    return tmp_path


def plain(content: bytes) -> bytes:
    """A MATLAB file without compression, so that mutations are not all caught by its checksum."""
    kind, size = struct.unpack('<II', content[MAT_HEADER : MAT_HEADER + 8])
    if kind != 15:
        return content
    return content[:MAT_HEADER] + zlib.decompress(content[MAT_HEADER + 8 : MAT_HEADER + 8 + size])


def read_both(dataset: type, root: Path, **options) -> Callable:
    def read() -> None:
        for split in ('train', 'test'):
            built = dataset(data_root=str(root), split=split, lazy_init=True, **options)
            built.load_train() if split == 'train' else built.load_test()

    return read


def slots(array: np.ndarray) -> Iterator[tuple[np.ndarray, tuple]]:
    """Places in nested struct and cell arrays that something else can be put into."""
    views = [array[name] for name in array.dtype.names] if array.dtype.names else [array] * (array.dtype == object)
    for view in views:
        for index in np.ndindex(view.shape):
            yield view, index
            if isinstance(view[index], np.ndarray):
                yield from slots(view[index])


def mutate_struct(rng: np.random.Generator, content: bytes) -> bytes:
    """A whole MATLAB file that holds something odd in one to three places, or in all."""
    variables = {key: value for key, value in loadmat(io.BytesIO(content)).items() if not key.startswith('__')}
    key = next(iter(variables))
    for _ in range(rng.integers(1, 4)):
        odd, places = deepcopy(ODD[rng.integers(len(ODD))]), list(slots(variables[key]))
        if rng.random() < 0.15 or not places:
            whole = np.atleast_2d(variables[key])
            choices = [odd, whole.T, whole[:, :0], np.concatenate([whole] * 2)]
            variables[key] = np.atleast_2d(choices[rng.integers(4)])
        else:
            view, index = places[rng.integers(len(places))]
            view[index] = odd
    file = io.BytesIO()
    savemat(file, variables, do_compression=bool(rng.integers(2)))
    return file.getvalue()


def mutate_json(rng: np.random.Generator, content: bytes) -> bytes:
    """Valid JSON with one to three odd, absent or repeated entries."""
    tree = json.loads(content)
    for _ in range(rng.integers(1, 4)):
        node, odd = tree, ODD_JSON[rng.integers(len(ODD_JSON))]
        while isinstance(node, dict | list) and node:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = keys[rng.integers(len(keys))]
            if rng.random() < 0.3 or not isinstance(node[key], dict | list) or not node[key]:
                break
            node = node[key]
        if not isinstance(node, dict | list) or not node:
            continue
        choice = rng.integers(4)
        if choice == 0:
            del node[key]
        elif choice == 1 and isinstance(node, list):
            node.append(node[key])
        else:
            node[key] = odd
    return json.dumps(tree).encode()


@pytest.mark.parametrize('rounds', ROUNDS)
@pytest.mark.parametrize('name', CUHK_FILES)
def test_cuhk_sysu(name: str, rounds: int, cuhk: Path, fuzz: Callable, mutate_bytes: Callable):
    def mutate_inside(rng: np.random.Generator, content: bytes) -> bytes:
        packed = zlib.compress(mutate_bytes(rng, content[MAT_HEADER:]))
        return content[:MAT_HEADER] + struct.pack('<II', 15, len(packed)) + packed

    path, read = cuhk / 'annotation' / name, read_both(CUHKSYSUDataset, cuhk)
    assert fuzz(path, read, rounds) > rounds / 4
    assert fuzz(path, read, rounds, mutate_inside) > rounds / 4
    assert fuzz(path, read, rounds, mutate_struct) > rounds / 4


@pytest.mark.parametrize('rounds', ROUNDS)
@pytest.mark.parametrize('name', ['frame_train.mat', 'frame_test.mat', 'annotations/c1s1_000001.jpg.mat'])
def test_prw(name: str, rounds: int, prw: Path, fuzz: Callable):
    path, read = prw / name, read_both(PRWDataset, prw)
    assert fuzz(path, read, rounds) > rounds / 4
    assert fuzz(path, read, rounds, mutate_struct) > 0


@pytest.mark.parametrize('rounds', ROUNDS)
def test_json_and_query_list(rounds: int, custom: Path, fuzz: Callable):
    def read() -> None:
        for split in ('train', 'test'):
            CustomPersonSearchDataset(data_root=str(custom), split=split, ann_file='people.json')

    assert fuzz(custom / 'people.json', read, rounds) > rounds / 4
    assert fuzz(custom / 'people.json', read, 2 * rounds, mutate_json) > rounds / 4
    with_list = read_both(CustomPersonSearchDataset, custom, ann_file='people.json', query_file='queries.txt')
    assert fuzz(custom / 'queries.txt', with_list, 2 * rounds) > rounds / 4
