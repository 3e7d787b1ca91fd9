"""Pipeline steps: person ids stay with their boxes."""

import multiprocessing.reduction
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from mmps_kd.datasets import AlignPids, FloorResize, LoadPersonSearchAnnotations, PackPersonSearchInputs
from mmps_kd.errors import UserError

HEIGHT, WIDTH = 60, 80
STEPS = {
    'resize': dict(type='Resize', scale=(100, 100), keep_ratio=True, interpolation='nearest'),
    'flip': dict(type='RandomFlip', prob=0.5),
    'crop': dict(type='RandomCrop', crop_size=(0.6, 0.6), crop_type='relative', allow_negative_crop=True),
    'filter': dict(type='FilterAnnotations', min_gt_bbox_wh=(8, 8), keep_empty=False),
    'shuffle': dict(type='Shuffle'),
}


@TRANSFORMS.register_module(force=True)
class Shuffle(BaseTransform):
    """Another order of the boxes."""

    def transform(self, results: dict) -> dict:
        order = np.random.permutation(len(results['gt_bboxes']))
        for key in ('gt_bboxes', 'gt_bboxes_labels', 'gt_ignore_flags'):
            results[key] = results[key][order]
        return results


def load(boxes: list, pids: list, img: np.ndarray) -> dict:
    people = [dict(bbox=b, bbox_label=7, ignore_flag=0, pid=p) for b, p in zip(boxes, pids, strict=True)]
    results = dict(img=img, img_shape=img.shape[:2], instances=people)
    return LoadPersonSearchAnnotations()(results)


def colour_under(results: dict, box: np.ndarray) -> int:
    x, y = (box[:2] + box[2:]) / 2
    return int(results['img'][int(y), int(x), 0])


@settings(deadline=None, max_examples=60)
@given(
    order=st.permutations(sorted(STEPS)),
    columns=st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_box_that_is_left_has_the_pid_it_began_with(order: list[str], columns: list[int], seed: int):
    """Boxes lie apart, each filled with a colour that encodes its pid: the pixels are the reference."""
    img = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    boxes, pids = [], []
    for column in columns:
        boxes.append([16 * column + 1, 10 + 5 * column, 16 * column + 15, 30 + 5 * column])
        pids.append(3 * column)
        img[10 + 5 * column : 30 + 5 * column, 16 * column + 1 : 16 * column + 15] = 10 + 40 * column
    np.random.seed(seed)
    results = AlignPids([STEPS[step] for step in order])(load(boxes, pids, img))
    if results is None:
        return
    assert len(results['gt_pids']) == len(results['gt_bboxes']) <= len(columns)
    assert results['gt_bboxes_labels'].tolist() == [7] * len(results['gt_pids'])
    for box, pid in zip(results['gt_bboxes'].tensor.numpy(), results['gt_pids'], strict=True):
        if min(box[2:] - box[:2]) > 2:  # of what a crop leaves, a sliver may not hold the middle of a pixel
            assert colour_under(results, box) == 10 + 40 * pid // 3


def test_a_filter_drops_the_pid_with_the_box():
    boxes = [[0, 0, 20, 20], [0, 0, 3, 3], [5, 5, 30, 30]]
    results = AlignPids([STEPS['filter']])(load(boxes, [5, 6, -1], np.zeros((HEIGHT, WIDTH, 3), np.uint8)))
    assert results['gt_pids'].tolist() == [5, -1]


def test_none_is_passed_on():
    crop = dict(type='RandomCrop', crop_size=(10, 10))
    np.random.seed(0)
    results = load([[70, 50, 72, 52]], [5], np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    outcomes = {AlignPids([crop, STEPS['flip']])(dict(results)) is None for _ in range(20)}
    assert True in outcomes


def test_no_box_stays_no_box():
    results = AlignPids([STEPS['resize'], STEPS['flip'], STEPS['crop']])(load([], [], np.zeros((60, 80, 3), np.uint8)))
    assert results['gt_pids'].shape == (0,) and results['gt_pids'].dtype == np.int64
    assert results['gt_bboxes_labels'].shape == (0,)


def test_an_unknown_transform_is_refused_when_built():
    with pytest.raises(KeyError, match='NoSuchTransform'):
        AlignPids([dict(type='NoSuchTransform')])


# LoadPersonSearchAnnotations


def test_pids_come_with_the_boxes():
    instances = [dict(bbox=[i, 0, i + 2, 2], bbox_label=0, ignore_flag=0, pid=pid) for i, pid in enumerate([4, -1, 0])]
    results = LoadPersonSearchAnnotations()({'instances': instances})
    np.testing.assert_array_equal(results['gt_bboxes'].tensor, [[0, 0, 2, 2], [1, 0, 3, 2], [2, 0, 4, 2]])
    assert results['gt_pids'].tolist() == [4, -1, 0] and results['gt_pids'].dtype == np.int64


def test_an_image_without_boxes_gives_empty_arrays():
    results = LoadPersonSearchAnnotations()({'instances': []})
    assert results['gt_bboxes'].tensor.shape == (0, 4)
    assert results['gt_pids'].shape == results['gt_bboxes_labels'].shape == (0,)
    assert results['gt_pids'].dtype == np.int64


# PackPersonSearchInputs

ANNOTATED = [
    dict(bbox=[i, 0, i + 20, 20], bbox_label=0, ignore_flag=i == 1, pid=pid) for i, pid in enumerate([4, 9, -1])
]


def load_three(annotated: list = ANNOTATED, **more) -> dict:
    img = np.zeros((60, 80, 3), dtype=np.uint8)
    results = dict(img=img, img_shape=(60, 80), ori_shape=(60, 80), img_id=3, img_name='s1.jpg', img_path='x/s1.jpg')
    return LoadPersonSearchAnnotations()({**results, 'instances': annotated, **more})


def queries(*boxes: list) -> dict:
    return dict(boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4), ids=np.arange(5, 5 + len(boxes)))


def resize(results: dict, width: int, height: int) -> dict:
    return TRANSFORMS.build(dict(type='Resize', scale=(width, height), keep_ratio=False))(results)


def test_pids_go_where_the_boxes_go():
    sample = PackPersonSearchInputs()(load_three())['data_samples']
    assert sample.gt_instances.pids.tolist() == [4, -1]
    assert sample.gt_instances.pids.dtype == torch.int64
    assert sample.ignored_instances.pids.tolist() == [9]


def test_an_image_without_boxes_has_empty_tensors():
    instances = PackPersonSearchInputs()(load_three([]))['data_samples'].gt_instances
    assert instances.bboxes.tensor.shape == (0, 4)
    assert instances.pids.shape == (0,) and instances.pids.dtype == torch.int64


def test_meta_information():
    results = TRANSFORMS.build(dict(type='RandomFlip', prob=1.0))(resize(load_three(), 160, 120))
    meta = PackPersonSearchInputs()(results)['data_samples'].metainfo
    # Mirrored after resizing.
    assert meta.pop('homography_matrix').tolist() == [[-2, 0, 160], [0, 2, 0], [0, 0, 1]]
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
    results = resize(load_three(queries=queries([10, 20, 30, 40], [0, 0, 5, 5])), 160, 180)
    found = PackPersonSearchInputs()(results)['data_samples'].query_instances
    assert found.bboxes.tolist() == [[20, 60, 60, 120], [0, 0, 10, 15]]
    assert found.bboxes.dtype == torch.float32
    assert found.query_ids.tolist() == [5, 6] and found.query_ids.dtype == torch.int64


def test_without_a_resize_they_stay_and_without_queries_there_are_none():
    pack = PackPersonSearchInputs()
    assert pack(load_three(queries=queries([1, 2, 3, 4])))['data_samples'].query_instances.bboxes.tolist() == [
        [1, 2, 3, 4]
    ]
    assert 'query_instances' not in pack(load_three())['data_samples']


def test_boxes_without_their_pids_are_an_error_that_names_the_wrapper():
    results = load_three()
    results['gt_bboxes'] = results['gt_bboxes'][1:]
    with pytest.raises(UserError, match=r'x/s1\.jpg: 2 boxes but 3 person ids .*AlignPids'):
        PackPersonSearchInputs()(results)


def test_a_flipped_query_image_is_an_error():
    results = TRANSFORMS.build(dict(type='RandomFlip', prob=1.0))(load_three(queries=queries([1, 2, 3, 4])))
    with pytest.raises(UserError, match='take RandomFlip out'):
        PackPersonSearchInputs()(results)


def test_a_pipeline_without_annotations_packs():
    packed = PackPersonSearchInputs()(dict(img=np.zeros((6, 8, 3), np.uint8), img_path='a.jpg'))
    assert packed['inputs'].shape == (3, 6, 8)


def test_a_sample_goes_to_another_process_without_shared_files(monkeypatch):
    sample = PackPersonSearchInputs()(load_three(queries=queries([10, 20, 30, 40])))['data_samples']
    monkeypatch.setattr(multiprocessing.reduction, 'DupFd', None)  # what shares the file of a tensor
    message = multiprocessing.reduction.ForkingPickler.dumps(sample)
    received = pickle.loads(message)
    assert type(received) is type(sample)
    assert received.ori_shape == (60, 80) and received.metainfo.keys() == sample.metainfo.keys()
    for name in ('gt_instances', 'ignored_instances', 'query_instances'):
        sent, got = dict(sample.get(name).items()), dict(received.get(name).items())
        assert sent.keys() == got.keys() and sent
        for key, value in sent.items():
            assert type(got[key]) is type(value)
            values = [getattr(each, 'tensor', each) for each in (value, got[key])]
            assert values[0].dtype == values[1].dtype and torch.equal(*values)
    with pytest.raises(TypeError, match='NoneType'):  # any other tensor
        multiprocessing.reduction.ForkingPickler.dumps(torch.ones(3))


@pytest.mark.parametrize(
    ('height', 'width', 'expected'),
    [
        (1080, 1920, (843, 1500)),  # mmcv makes 844 of it
        (576, 720, (900, 1125)),
        (1920, 1080, (1500, 843)),
        (300, 500, (900, 1500)),
        (700, 700, (900, 900)),
    ],
)
def test_floor_resize_sizes(height, width, expected):
    img = np.zeros((height, width, 3), dtype=np.uint8)
    results = FloorResize(scale=(1500, 900))(dict(img=img, img_shape=img.shape[:2]))
    assert results['img'].shape == (*expected, 3)
    assert results['img_shape'] == expected
    assert results['scale_factor'] == (expected[1] / width, expected[0] / height)


def test_floor_resize_keeps_fractions_and_scales_boxes():
    img = np.arange(4, dtype=np.uint8).reshape(2, 2, 1).repeat(3, axis=2)  # rows 0 1, 2 3
    results = FloorResize(scale=(4, 4))(load([[0, 0, 1, 2]], [5], img))
    assert results['img'].dtype == np.float32
    # Half-pixel centres: 0.25 and 0.75 of the way between two pixels.
    assert results['img'][0, :, 0].tolist() == [0, 0.25, 0.75, 1]
    assert results['img'][:, 0, 0].tolist() == [0, 0.5, 1.5, 2]
    assert results['gt_bboxes'].tensor.tolist() == [[0, 0, 2, 4]]
    assert results['gt_pids'].tolist() == [5]
