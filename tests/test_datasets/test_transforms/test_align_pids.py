import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from mmps_kd.datasets import AlignPids, LoadPersonSearchAnnotations

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
    """People stand apart, painted in a colour that says their pid: the picture is the witness."""
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


def test_nobody_stays_nobody():
    results = AlignPids([STEPS['resize'], STEPS['flip'], STEPS['crop']])(load([], [], np.zeros((60, 80, 3), np.uint8)))
    assert results['gt_pids'].shape == (0,) and results['gt_pids'].dtype == np.int64
    assert results['gt_bboxes_labels'].shape == (0,)


def test_an_unknown_transform_is_refused_when_built():
    with pytest.raises(KeyError, match='NoSuchTransform'):
        AlignPids([dict(type='NoSuchTransform')])
