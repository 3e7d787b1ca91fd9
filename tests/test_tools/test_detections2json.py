"""Detections as annotations without identities: a training set that the rest of the package reads."""

import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmdet.registry import DATASETS

TOOL = Path(__file__).resolve().parents[2] / 'tools/dataset_tools/detections2json.py'
STEPS = [dict(type='LoadScene'), dict(type='LoadPersonSearchAnnotations'), dict(type='PackPersonSearchInputs')]


def result(image, score, box=(10, 10, 20, 40), category=1):
    return dict(image_id=image, bbox=list(box), score=score, category_id=category)


@pytest.fixture
def convert(tmp_path, monkeypatch):
    """Run the tool on detections in two images of 80x60 pixels; gives the JSON, or the error's text."""
    (tmp_path / 'images/cam').mkdir(parents=True)
    for name in ('a.png', 'cam/b.png'):
        cv2.imwrite(str(tmp_path / 'images' / name), np.zeros((60, 80, 3), np.uint8))

    def run(detections, *options):
        (tmp_path / 'd.json').write_text(json.dumps(detections))
        words = [tmp_path / 'd.json', tmp_path / 'images', '--out', tmp_path / 'train.json', *options]
        monkeypatch.setattr(sys, 'argv', ['detections2json.py', *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(TOOL), run_name='__main__')
        return json.loads((tmp_path / 'train.json').read_text()) if stopped.value.code == 0 else stopped.value.code

    return run


def test_a_training_set_without_identities(convert, tmp_path):
    detections = [
        result('cam/b.png', 0.9),
        result('a.png', 0.4, (5, 5, 10, 20)),
        result('a.png', 0.1),
        result('a.png', 0.7),
        result('a.png', 0.8, category=3),
    ]
    content = convert(detections, '--category-id', 1)
    assert [(image['file_name'], image['height'], image['width']) for image in content['images']] == [
        ('a.png', 60, 80),
        ('cam/b.png', 60, 80),
    ]
    boxes = [(a['image_id'], a['bbox'], a.get('ignore')) for a in content['annotations']]
    assert boxes == [(0, [10, 10, 20, 40], None), (0, [5, 5, 10, 20], 1), (1, [10, 10, 20, 40], None)]
    dataset = DATASETS.build(
        dict(type='CustomPersonSearchDataset', data_root=str(tmp_path), ann_file='train.json', pipeline=STEPS)
    )
    assert dataset.metainfo['num_identities'] == 0
    samples = [dataset[i]['data_samples'] for i in range(2)]
    assert [sample.gt_instances.pids.tolist() for sample in samples] == [[-1], [-1]]
    assert [sample.gt_instances.box_ids.tolist() for sample in samples] == [[0], [2]]
    assert len(samples[0].ignored_instances.bboxes) == 1


def test_what_cannot_be_used(convert):
    assert 'lacks 1 of the 1 images detected in, first c.png' in convert([result('c.png', 0.9)])
    assert 'no detection of a score of 0.5 or more: lower --score-thr' in convert([result('a.png', 0.3)])
    assert 'has no detection of category_id=2' in convert([result('a.png', 0.9)], '--category-id', 2)
