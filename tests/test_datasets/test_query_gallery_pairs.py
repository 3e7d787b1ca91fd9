"""Which pairs are drawn, and that a query's box is where its person is."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.dataset import pseudo_collate

from mmps_kd.datasets import QueryGalleryPairDataset
from mmps_kd.errors import UserError

# image: the people in it; identities 3 and 8 are in two images or more, 9 and 4 in one.
IMAGES = [[3, 9], [3, 8, None], [8], [4], [None], [3]]
LOAD = [dict(type='LoadScene'), dict(type='LoadPersonSearchAnnotations')]
PACK = [dict(type='PackPersonSearchInputs')]


@pytest.fixture
def root(tmp_path: Path, monkeypatch) -> Path:
    """Images of 80x60; a person stands at x = 4 * id, or at 50."""
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'cache'))
    (tmp_path / 'images').mkdir()
    people = []
    for image, pids in enumerate(IMAGES):
        cv2.imwrite(str(tmp_path / f'images/{image}.png'), np.full((60, 80, 3), image, np.uint8))
        for pid in pids:
            person = dict(id=len(people), image_id=image, bbox=[50 if pid is None else 4 * pid, image, 10, 20])
            people.append(person | dict(category_id=1) | ({} if pid is None else dict(person_id=pid)))
    images = [dict(id=i, file_name=f'{i}.png', height=60, width=80) for i in range(len(IMAGES))]
    (tmp_path / 'people.json').write_text(json.dumps(dict(images=images, annotations=people)))
    return tmp_path


def build(root, *transforms, split='train', **more) -> QueryGalleryPairDataset:
    dataset = dict(type='CustomPersonSearchDataset', data_root=str(root), ann_file='people.json', split=split)
    return DATASETS.build(
        dict(type='QueryGalleryPairDataset', dataset={**dataset, 'pipeline': [*LOAD, *transforms, *PACK]}, **more)
    )


def drawn(dataset, count=60):
    """Names of query and gallery image, and the query's identity as annotated, of many items."""
    np.random.seed(0)
    found = set()
    for _ in range(count):
        for idx in range(len(dataset)):
            samples = dataset[idx]['data_samples']
            pid = dataset.metainfo['identities'][samples['query'].query_instances.pids.item()]
            found.add((samples['query'].img_name[0], samples['gallery'].img_name[0], pid))
    return found


def test_positive_pairs_are_all_that_there_are(root):
    assert drawn(build(root)) == {
        ('1', '0', 3),
        ('5', '0', 3),
        ('0', '1', 3),
        ('5', '1', 3),
        ('2', '1', 8),
        ('1', '2', 8),
        ('0', '5', 3),
        ('1', '5', 3),
    }


def test_negative_pairs_are_all_that_there_are(root):
    images_of = {3: '015', 8: '12', 9: '0', 4: '3'}
    expected = {
        (query, gallery, pid)
        for gallery in '0125'
        for pid, images in images_of.items()
        for query in images
        if gallery not in images
    }
    assert drawn(build(root, positive_fraction=0.0)) == expected


def test_positive_fraction(root):
    dataset = build(root, positive_fraction=0.75)
    np.random.seed(0)
    positive = 0
    for _ in range(100):
        for idx in range(4):
            samples = dataset[idx]['data_samples']
            positive += int(samples['query'].query_instances.pids in samples['gallery'].gt_instances.pids)
    # 400 draws: the standard deviation is 8.7.
    assert abs(positive - 300) < 40


def test_items_are_the_images_with_somebody_seen_twice(root):
    dataset = build(root)
    assert len(dataset) == 4
    assert [dataset.get_data_info(i)['img_name'] for i in range(4)] == ['0.png', '1.png', '2.png', '5.png']
    assert dataset.metainfo['identities'] == (3, 4, 8, 9)
    assert dataset.metainfo['dataset_name'] == 'custom'


def test_an_item(root):
    dataset = build(root)
    item = dataset.pair(2, 2, 1)
    assert item['inputs']['query'].shape == (3, 60, 80)
    assert item['inputs']['query'].unique().tolist() == [2]
    assert item['inputs']['gallery'].unique().tolist() == [1]
    query = item['data_samples']['query'].query_instances
    assert query.bboxes.tolist() == [[32, 2, 42, 22]]
    assert (query.bboxes.dtype, query.pids.dtype, query.pids.tolist()) == (torch.float32, torch.int64, [2])
    assert item['data_samples']['gallery'].gt_instances.pids.tolist() == [0, 2, -1]
    batch = pseudo_collate([item, item])
    assert len(batch['inputs']['gallery']) == len(batch['data_samples']['query']) == 2


def test_the_box_follows_resize_and_flip(root):
    resize = dict(type='Resize', scale=(160, 120), keep_ratio=True)
    dataset = build(root, resize, dict(type='RandomFlip', prob=1.0))
    query = dataset.pair(2, 2, 1)['data_samples']['query']
    # Doubled: 64 to 84 of 160; mirrored: 160 - 84 = 76 to 96.
    assert query.query_instances.bboxes.tolist() == [[76, 4, 96, 44]]
    assert query.flip


def test_the_draws_are_numpys(root):
    dataset = build(root, positive_fraction=0.5)

    def names():
        np.random.seed(7)
        return [dataset[i % 4]['data_samples']['query'].img_name for i in range(20)]

    assert names() == names()
    assert len(set(names())) > 2


def test_a_query_that_a_crop_drops_is_drawn_again(root):
    # Of 80 columns 30 are left: one of the two people is often outside.
    crop = dict(type='RandomCrop', crop_size=(30, 60), allow_negative_crop=True)
    dataset = build(root, dict(type='AlignPids', transforms=[crop]))
    np.random.seed(0)
    for idx in range(40):
        sample = dataset[idx % 4]['data_samples']['query']
        box = sample.query_instances.bboxes[0]
        assert (box[:2] >= 0).all() and box[2] <= 30 and (box[2:] > box[:2]).all()


def test_a_pipeline_that_drops_every_query(root):
    keep_none = dict(type='FilterAnnotations', min_gt_bbox_wh=(99, 99), keep_empty=False)
    dataset = build(root, dict(type='AlignPids', transforms=[keep_none]))
    dataset.dataset.max_refetch = 5
    with pytest.raises(UserError, match='the pipeline drops every query; take transforms out that drop boxes'):
        dataset[0]


def test_a_query_needs_an_identity(root):
    dataset = build(root)
    for pid in (-1, 3):
        with pytest.raises(UserError, match=rf'query in 1\.png: no box there has identity {pid}'):
            dataset.pair(1, pid, 0)


def test_nobody_in_two_images(root):
    content = json.loads((root / 'people.json').read_text())
    for person in content['annotations']:
        person['person_id'] = person['id']
    (root / 'people.json').write_text(json.dumps(content))
    with pytest.raises(UserError, match='no identity is labelled in two images'):
        build(root)


def test_test_images_are_no_training_pairs(root):
    with pytest.raises(UserError, match="pairs are of .* split='train'"):
        build(root, split='test')


def test_pairs_of_two_data_sets_are_refused(root):
    one = dict(type='CustomPersonSearchDataset', data_root=str(root), ann_file='people.json', pipeline=[])
    cfg = dict(type='QueryGalleryPairDataset', dataset=dict(type='ConcatDataset', datasets=[one, one]))
    with pytest.raises(UserError, match='got ConcatDataset: identities of different data sets'):
        DATASETS.build(cfg)


def test_positive_fraction_is_a_fraction(root):
    with pytest.raises(UserError, match='positive_fraction must be in 0..1, got 1.5'):
        build(root, positive_fraction=1.5)
