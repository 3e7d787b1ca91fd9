"""The visualizer: both kinds of boxes in the right place, and all backends served."""

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import VISUALIZERS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmps_kd.visualization import in_pixels_of
from mmps_kd.visualization.draw import GAP, identity_colour

IMAGE = np.full((600, 800, 3), 90, np.uint8)


@pytest.fixture
def sample():
    """Original of 800x600 pixels, network input of half the size: one person, detected, and a doubtful detection."""
    sample = DetDataSample(metainfo=dict(img_shape=(300, 400), ori_shape=(600, 800), img_path='a/b.jpg'))
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[50, 60, 100, 200.0]]), labels=torch.tensor([0]), pids=torch.tensor([5])
    )
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor([[100, 120, 200, 400], [500, 300, 550, 400.0]]),
        scores=torch.tensor([0.9, 0.3]),
        labels=torch.tensor([0, 0]),
        embeddings=torch.zeros(2, 8),
    )
    return sample


@pytest.fixture
def visualizer(tmp_path):
    """Built as a config does."""
    return VISUALIZERS.build(
        dict(
            type='PersonSearchVisualizer',
            name=f'test {tmp_path}',
            vis_backends=[dict(type='LocalVisBackend')],
            save_dir=str(tmp_path),
        )
    )


@pytest.fixture
def draw(visualizer, tmp_path):
    """Draw a sample; gives the picture as the backend wrote it."""

    def draw(*arguments, **options):
        visualizer.add_datasample('pic', IMAGE, *arguments, step=0, **options)
        (written,) = tmp_path.glob('**/pic_0.png')
        return cv2.imread(str(written))[..., ::-1]

    return draw


def frame(panel):
    """Left, right and lower end of person 5's frame in a panel."""
    ys, xs = (panel[-600:] == identity_colour(5)).all(axis=2).nonzero()
    return [xs.min(), xs[ys > 130].max(), ys.max()]


def test_ground_truth_and_detection_of_a_person_look_alike(draw, sample):
    drawn = draw(sample)
    assert drawn.shape[1] == 2 * 800 + GAP
    left, right = drawn[:, :800], drawn[:, 800 + GAP :]
    assert frame(left) == frame(right) == [100, 200, 400]


def test_score_threshold_keeps_equal_scores(draw, sample):
    thresholds = (0.29, float(torch.tensor(0.3)), 0.31)
    below, equal, above = (draw(sample, draw_gt=False, pred_score_thr=threshold) for threshold in thresholds)
    assert below.shape[1] == 800
    assert np.array_equal(below, equal)
    assert not np.array_equal(equal, above)


def test_samples_are_left_as_they_are(draw, sample):
    draw(sample)
    assert sample.gt_instances.bboxes.tolist() == [[50, 60, 100, 200]]
    assert len(sample.pred_instances) == 2
    assert 'pids' not in sample.pred_instances


def test_network_input(sample):
    seen = in_pixels_of(IMAGE[:300, :400], sample)
    assert seen.gt_instances.bboxes.tolist() == [[50, 60, 100, 200]]
    assert seen.pred_instances.bboxes[0].tolist() == [50, 60, 100, 200]


def test_a_file_takes_the_place_of_the_backends(visualizer, sample, tmp_path):
    visualizer.add_datasample('pic', IMAGE, sample, out_file=str(tmp_path / 'folder/out.png'), step=4)
    assert cv2.imread(str(tmp_path / 'folder/out.png')).shape[1] == 2 * 800 + GAP
    assert not list(tmp_path.glob('**/pic_4.png'))


def test_nothing_to_draw(draw, sample):
    assert np.array_equal(draw(sample, draw_gt=False, draw_pred=False), IMAGE)
    del sample.pred_instances
    assert draw(sample).shape[1] == 800
