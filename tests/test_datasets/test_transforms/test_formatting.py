import numpy as np
import pytest
import torch
from mmdet.registry import TRANSFORMS

from mmps_kd.datasets import LoadPersonSearchAnnotations, PackPersonSearchInputs
from mmps_kd.errors import UserError

PEOPLE = [dict(bbox=[i, 0, i + 20, 20], bbox_label=0, ignore_flag=i == 1, pid=pid) for i, pid in enumerate([4, 9, -1])]


def load(people: list = PEOPLE, **more) -> dict:
    img = np.zeros((60, 80, 3), dtype=np.uint8)
    results = dict(img=img, img_shape=(60, 80), ori_shape=(60, 80), img_id=3, img_name='s1.jpg', img_path='x/s1.jpg')
    return LoadPersonSearchAnnotations()({**results, 'instances': people, **more})


def queries(*boxes: list) -> dict:
    return dict(boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4), ids=np.arange(5, 5 + len(boxes)))


def resize(results: dict, width: int, height: int) -> dict:
    return TRANSFORMS.build(dict(type='Resize', scale=(width, height), keep_ratio=False))(results)


def test_pids_go_where_the_boxes_go():
    sample = PackPersonSearchInputs()(load())['data_samples']
    assert sample.gt_instances.pids.tolist() == [4, -1]
    assert sample.gt_instances.pids.dtype == torch.int64
    assert sample.ignored_instances.pids.tolist() == [9]


def test_nobody_has_empty_tensors():
    people = PackPersonSearchInputs()(load([]))['data_samples'].gt_instances
    assert people.bboxes.tensor.shape == (0, 4)
    assert people.pids.shape == (0,) and people.pids.dtype == torch.int64


def test_meta_information():
    results = TRANSFORMS.build(dict(type='RandomFlip', prob=1.0))(resize(load(), 160, 120))
    meta = PackPersonSearchInputs()(results)['data_samples'].metainfo
    assert meta == dict(
        img_id=3,
        img_path='x/s1.jpg',
        img_name='s1.jpg',
        ori_shape=(60, 80),
        img_shape=(120, 160),
        scale_factor=(2.0, 2.0),
        flip=True,
        flip_direction='horizontal',
    )


def test_query_boxes_are_scaled_like_the_image():
    results = resize(load(queries=queries([10, 20, 30, 40], [0, 0, 5, 5])), 160, 180)
    found = PackPersonSearchInputs()(results)['data_samples'].query_instances
    assert found.bboxes.tolist() == [[20, 60, 60, 120], [0, 0, 10, 15]]
    assert found.bboxes.dtype == torch.float32
    assert found.query_ids.tolist() == [5, 6] and found.query_ids.dtype == torch.int64


def test_without_a_resize_they_stay_and_without_queries_there_are_none():
    pack = PackPersonSearchInputs()
    assert pack(load(queries=queries([1, 2, 3, 4])))['data_samples'].query_instances.bboxes.tolist() == [[1, 2, 3, 4]]
    assert 'query_instances' not in pack(load())['data_samples']


def test_boxes_without_their_pids_are_an_error_that_names_the_wrapper():
    results = load()
    results['gt_bboxes'] = results['gt_bboxes'][1:]
    with pytest.raises(UserError, match=r'x/s1\.jpg: 2 boxes but 3 person ids .*AlignPids'):
        PackPersonSearchInputs()(results)


def test_a_flipped_query_image_is_an_error():
    results = TRANSFORMS.build(dict(type='RandomFlip', prob=1.0))(load(queries=queries([1, 2, 3, 4])))
    with pytest.raises(UserError, match='take RandomFlip out'):
        PackPersonSearchInputs()(results)


def test_a_pipeline_without_annotations_packs():
    packed = PackPersonSearchInputs()(dict(img=np.zeros((6, 8, 3), np.uint8), img_path='a.jpg'))
    assert packed['inputs'].shape == (3, 6, 8)
