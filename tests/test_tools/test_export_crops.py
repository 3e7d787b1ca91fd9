"""Crops of the labelled people, and the way back from them to a table."""

import csv
import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mmps_kd.models.distillers import load_lut

ROOT = Path(__file__).resolve().parents[2]
# Three images of 60x80; person 7 is seen twice in the first one.
PEOPLE = [
    ('a/x.jpg', 7, [10, 20, 12, 30]),
    ('a/x.jpg', 7, [40, 5, 8, 16]),
    ('a/x.jpg', -1, [50, 5, 8, 16]),
    ('b/x.jpg', 7, [70.5, 40.2, 30, 30]),  # reaches beyond the image
    ('b/x.jpg', 3, [-4, -2, 10.5, 12.5]),
    ('b/y.jpg', None, [5, 5, 10, 10]),
]
CONFIG = """
default_scope = 'mmdet'
train_dataloader = dict(
    dataset=dict(type='CustomPersonSearchDataset', data_root={root!r}, ann_file='train.json', pipeline=[])
)
test_dataloader = dict(dataset=dict(pipeline=[]))
"""


@pytest.fixture
def config(tmp_path):
    root = tmp_path / 'data'
    names = sorted({name for name, *_ in PEOPLE})
    rng = np.random.default_rng(0)
    for name in names:
        (root / 'images' / name).parent.mkdir(parents=True, exist_ok=True)
        # Large smooth blocks: JPEG changes them little.
        image = cv2.resize(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8), (80, 60), interpolation=cv2.INTER_LINEAR)
        cv2.imwrite(str(root / 'images' / name), image)
    annotations = [
        dict(id=n, image_id=names.index(name), category_id=1, bbox=box, iscrowd=0, area=box[2] * box[3])
        | ({} if pid is None else dict(person_id=pid))
        for n, (name, pid, box) in enumerate(PEOPLE)
    ]
    images = [dict(id=i, file_name=name, width=80, height=60) for i, name in enumerate(names)]
    content = dict(images=images, annotations=annotations, categories=[dict(id=1, name='person')])
    (root / 'train.json').write_text(json.dumps(content))
    path = tmp_path / 'config.py'
    path.write_text(CONFIG.format(root=str(root)))
    return path


@pytest.fixture
def run(monkeypatch):
    def run(tool, *arguments):
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
        return stopped.value.code

    return run


def export(run, config, out):
    assert run('dataset_tools/export_crops.py', config, out) == 0
    with open(out / 'index.csv', newline='') as file:
        return list(csv.DictReader(file))


def test_crops_and_index(run, config, tmp_path):
    rows = export(run, config, tmp_path / 'crops')
    assert [(row['file'], row['identity'], row['image']) for row in rows] == [
        ('7/a_x_0.jpg', '7', 'a/x.jpg'),
        ('7/a_x_1.jpg', '7', 'a/x.jpg'),
        ('7/b_x_0.jpg', '7', 'b/x.jpg'),
        ('3/b_x_1.jpg', '3', 'b/x.jpg'),
    ]
    assert [float(rows[2][key]) for key in ('x1', 'y1', 'x2', 'y2')] == [70.5, 40.2, 80, 60]
    windows = [(10, 20, 22, 50), (40, 5, 48, 21), (70, 40, 80, 60), (0, 0, 7, 11)]
    for row, (x1, y1, x2, y2) in zip(rows, windows, strict=True):
        crop = cv2.imread(str(tmp_path / 'crops' / row['file'])).astype(int)
        image = cv2.imread(str(tmp_path / 'data/images' / row['image'])).astype(int)
        assert crop.shape == (y2 - y1, x2 - x1, 3)
        assert np.abs(crop - image[y1:y2, x1:x2]).mean() < 3
    assert len(list((tmp_path / 'crops').rglob('*.jpg'))) == 4


def test_from_crops_to_a_table(run, config, tmp_path):
    """A stand-in for a re-id model: the mean colour of a crop."""
    rows = export(run, config, tmp_path / 'crops')
    features = np.stack([cv2.imread(str(tmp_path / 'crops' / row['file'])).mean(axis=(0, 1)) for row in rows])
    np.savez(tmp_path / 'f.npz', features=features, pids=np.array([row['identity'] for row in rows]))
    out = tmp_path / 'lut.safetensors'
    arguments = ['--out', out, '--source', 'features', '--features', tmp_path / 'f.npz']
    assert run('extract_lut.py', config, *arguments) == 0
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    seven = unit[:3].mean(axis=0)
    expected = np.stack([unit[3], seven / np.linalg.norm(seven)])  # rows in the order of identities: 3, 7
    assert torch.allclose(load_lut(out).rows, torch.from_numpy(expected).float(), atol=1e-6)


def test_folder_that_is_not_empty(run, config, tmp_path):
    assert run('dataset_tools/export_crops.py', config, tmp_path).startswith(f'error: {tmp_path} is there')
    assert run('dataset_tools/export_crops.py', config, config).startswith(f'error: {config} is there')


def test_damaged_image_is_named(run, config, tmp_path):
    image = tmp_path / 'data/images/b/x.jpg'
    image.write_bytes(image.read_bytes()[:-50])
    error = run('dataset_tools/export_crops.py', config, tmp_path / 'crops')
    assert error.startswith(f'error: {image} cannot be read as an image: it is truncated')


def test_crops_of_turned_images_are_upright(run, config, tmp_path):
    path = tmp_path / 'data/images/a/x.jpg'
    stored = cv2.imread(str(path)).astype(int)
    exif = Image.Exif()
    exif[0x0112] = 6  # by 90 degrees clockwise
    Image.open(path).save(path, exif=exif, quality=100, subsampling=0)
    row = export(run, config, tmp_path / 'crops')[0]
    assert [float(row[key]) for key in ('x1', 'y1', 'x2', 'y2')] == [10, 20, 22, 50]
    crop = cv2.imread(str(tmp_path / 'crops' / row['file'])).astype(int)
    assert crop.shape == (12, 30, 3)
    assert np.abs(crop - np.rot90(stored[20:50, 10:22], -1)).mean() < 3
