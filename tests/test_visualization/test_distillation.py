"""Where features differ: the numbers by hand, and where in the picture they go."""

import numpy as np
import pytest
import torch

from mmps_kd.visualization.distillation import draw_difference, feature_difference, spread_over_image
from mmps_kd.visualization.draw import draw_boxes


def test_difference_by_hand():
    teacher = torch.tensor([[[3.0, 0.0]], [[4.0, 5.0]]])  # two cells, both of norm 5
    student = torch.tensor([[[0.0, 0.0]], [[0.0, 2.0]]])  # off by 5 and by 3
    assert feature_difference(student, teacher).tolist() == [[1.0, pytest.approx(0.6)]]


def test_root_mean_square_is_the_relative_distance():
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 8, 5, 7, generator=generator)
    difference = feature_difference(student, teacher)
    expected = (student - teacher).norm() / teacher.norm()
    assert float(difference.square().mean().sqrt()) == pytest.approx(float(expected), rel=1e-5)
    assert not feature_difference(teacher, teacher).any()
    assert feature_difference(student.half(), teacher.half()).dtype == torch.float32


def test_padding_is_cut_off():
    values = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    spread = spread_over_image(values, padded=(4, 8), size=(3, 6))
    assert spread.shape == (3, 6)
    # Centres of the two cells stand at 2 and 6 of 8 pixels.
    assert spread[0].tolist() == [0, 0, 0.125, 0.375, 0.625, 0.875]


def test_heat_map():
    values = np.zeros((10, 20), np.float32)
    values[:, 10:] = 9.0  # hotter than the scale
    image = np.full((600, 1200, 3), 100, np.uint8)
    picture = draw_difference(image, values, 'title')
    assert picture.shape == draw_boxes(image, [], 'title').shape
    scene = picture[-600:].astype(int)
    assert np.abs(scene[100, 100] - 0.35 * 100).max() <= 4  # black over grey
    assert (scene[100, 1100] > 130).all()  # pale yellow
    assert scene[100, 1100, 2] < scene[100, 1100, 0]
    # The scale, on white.
    assert (scene[560:590, 1160:1190] == 255).mean() > 0.5
