import numpy as np

from mmps_kd.datasets import LoadPersonSearchAnnotations


def test_pids_come_with_the_boxes():
    people = [dict(bbox=[i, 0, i + 2, 2], bbox_label=0, ignore_flag=0, pid=pid) for i, pid in enumerate([4, -1, 0])]
    results = LoadPersonSearchAnnotations()({'instances': people})
    np.testing.assert_array_equal(results['gt_bboxes'].tensor, [[0, 0, 2, 2], [1, 0, 3, 2], [2, 0, 4, 2]])
    assert results['gt_pids'].tolist() == [4, -1, 0] and results['gt_pids'].dtype == np.int64


def test_nobody_gives_empty_arrays():
    results = LoadPersonSearchAnnotations()({'instances': []})
    assert results['gt_bboxes'].tensor.shape == (0, 4)
    assert results['gt_pids'].shape == results['gt_bboxes_labels'].shape == (0,)
    assert results['gt_pids'].dtype == np.int64
