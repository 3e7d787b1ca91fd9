"""Hand-written data sets of a few images, in the official layouts."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat


def structs(*rows: dict) -> np.ndarray:
    """A MATLAB (1, n) struct array."""
    array = np.empty((1, len(rows)), dtype=[(key, object) for key in rows[0]])
    for i, row in enumerate(rows):
        array[0, i] = tuple(row.values())
    return array


def cells(*values) -> np.ndarray:
    """A MATLAB (n, 1) cell array."""
    array = np.empty((len(values), 1), dtype=object)
    array[:, 0] = values
    return array


def box(*xywh: int) -> np.ndarray:
    """A box as the files hold it, (1, 4); nothing for an image without the person."""
    return np.array([xywh], dtype=np.uint16) if xywh else np.zeros((1, 0))


def gallery_entry(name: str, *xywh: int) -> dict:
    return dict(imname=name, idlocate=box(*xywh), ishard=np.zeros((1, 1), np.uint8))


def write_images(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        cv2.imwrite(str(folder / name), np.full((60, 80, 3), 128, np.uint8))


CUHK_BOXES = {
    's1.jpg': [(1, 2, 10, 20), (30, 2, 10, 20), (5, 5, 0, 7)],  # train; the last has no width
    's2.jpg': [(3, 4, 11, 21), (50, 2, 9, 19)],  # train
    's3.jpg': [(7, 7, 5, 5)],  # train, nobody known
    's4.jpg': [(10, 10, 8, 16), (40, 10, 8, 16)],
    's5.jpg': [(12, 12, 8, 16)],
    's6.jpg': [(14, 14, 8, 16), (60, 14, 8, 16)],
    's7.jpg': [(20, 20, 6, 0)],  # nobody left
}
CUHK_TRAIN = [
    ('p7', [('s1.jpg', (1, 2, 10, 20)), ('s2.jpg', (50, 2, 9, 19))]),
    ('p9', [('s5.jpg', (12, 12, 8, 16))]),  # in a test image only: no training identity
    ('p2', [('s2.jpg', (3, 4, 11, 21))]),
]
CUHK_QUERIES = [
    (('s4.jpg', (10, 10, 8, 16)), [('s5.jpg', (12, 12, 8, 16)), ('s6.jpg',), ('s7.jpg',)]),
    (('s6.jpg', (60, 14, 8, 16)), [('s4.jpg', (40, 10, 8, 16)), ('s4.jpg', (40, 10, 8, 16)), ('s6.jpg',)]),
]


def _write_protocol(root: Path, size: int, queries: list = CUHK_QUERIES) -> None:
    items = [
        dict(
            Query=structs(dict(**gallery_entry(image, *xywh), idname=f'p{100 + i}')),
            Gallery=structs(*(gallery_entry(name, *(boxes[0] if boxes else ())) for name, *boxes in gallery)),
        )
        for i, ((image, xywh), gallery) in enumerate(queries)
    ]
    folder = root / 'annotation/test/train_test'
    folder.mkdir(parents=True, exist_ok=True)
    savemat(folder / f'TestG{size}.mat', {f'TestG{size}': structs(*items)}, do_compression=True)


def _write_train(root: Path, train: list = CUHK_TRAIN) -> None:
    identities = [
        structs(
            dict(
                idname=name,
                nAppear=np.array([[len(scenes)]]),
                scene=structs(*(gallery_entry(image, *xywh) for image, xywh in scenes)),
            )
        )
        for name, scenes in train
    ]
    savemat(root / 'annotation/test/train_test/Train.mat', {'Train': cells(*identities)})


@pytest.fixture
def write_protocol() -> Callable:
    """``write_protocol(root, size, queries)``; a query is ((image, box), [(image, box) or (image,), ...])."""
    return _write_protocol


@pytest.fixture
def write_train() -> Callable:
    """``write_train(root, train)``; an identity is (name, [(image, box), ...])."""
    return _write_train


@pytest.fixture
def cuhk_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CUHK-SYSU with 7 images, 2 training identities and 2 queries; TestG100 and TestG50 are alike."""
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'cache'))
    root = tmp_path / 'cuhk-sysu'
    write_images(root / 'Image/SSM', *CUHK_BOXES)
    _write_protocol(root, 100)
    _write_protocol(root, 50)
    _write_train(root)
    images = [
        dict(
            imname=name,
            nAppear=np.array([[len(boxes)]]),
            box=structs(*(dict(idlocate=box(*xywh), ishard=np.zeros((1, 1), np.uint8)) for xywh in boxes)),
        )
        for name, boxes in CUHK_BOXES.items()
    ]
    savemat(root / 'annotation/Images.mat', {'Img': structs(*images)})
    savemat(root / 'annotation/pool.mat', {'pool': cells('s4.jpg', 's5.jpg', 's6.jpg', 's7.jpg')})
    return root


PRW_FRAMES = {
    'c1s1_000001': [(932, 1, 2, 10, 20), (-2, 30, 2, 10, 20)],  # train
    'c2s1_000002': [(5, 3.6, 4.5, 11.5, 21), (932, -1.5, 4, 11, 21)],  # train
    'c1s1_000009': [(7, 10, 10, 8, 16), (8, 40, 10, 8, 16)],
    'c1s1_000010': [(7, 12, 12, 8, 16), (7, 60, 12, 8, 16)],  # one person twice
    'c3s1_000011': [(8, 14, 14, 8, 16), (-2, 60, 14, 8, 16), (7, 30, 14, 8, 16)],
    'c3s1_000012': [(-2, 20, 20, 6, 0)],  # nobody left
}
PRW_BOX_KEYS = ('box_new', 'anno_file', 'anno_previous')
PRW_QUERIES = '7 10.2 10.7 7.9 15.5 c1s1_000009\n8 14 14 8 16 c3s1_000011\n'


@pytest.fixture
def prw_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """PRW with 6 frames, 2 training identities (5 and 932) and 2 queries."""
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'cache'))
    root = tmp_path / 'prw'
    write_images(root / 'frames', *(f'{name}.jpg' for name in PRW_FRAMES))
    (root / 'annotations').mkdir()
    for i, (name, rows) in enumerate(PRW_FRAMES.items()):
        savemat(root / f'annotations/{name}.jpg.mat', {PRW_BOX_KEYS[i % 3]: np.array(rows, dtype=np.float64)})
    names = list(PRW_FRAMES)
    savemat(root / 'frame_train.mat', {'img_index_train': cells(*names[:2])})
    savemat(root / 'frame_test.mat', {'img_index_test': cells(*names[2:])})
    (root / 'query_info.txt').write_text(PRW_QUERIES)
    return root
