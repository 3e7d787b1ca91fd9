"""Frames, labels and headings, where they belong."""

import numpy as np
import pytest

from mmps_kd.visualization.people import FramedPerson, draw_people, join_panels
from mmps_kd.visualization.style import PAPER

COLOUR = (200, 0, 100)


def grey(height, width):
    return np.full((height, width, 3), 90, np.uint8)


def test_a_small_scene_is_enlarged_with_its_boxes():
    person = FramedPerson(np.array([20, 30, 60, 90.0]), COLOUR, '')
    picture = draw_people(grey(100, 200), [person], 'title')
    assert picture.shape[1] == 1200
    scene = picture[-600:]
    ys, xs = (scene == COLOUR).all(axis=2).nonzero()
    assert [xs.min(), ys.min(), xs.max(), ys.max()] == [120, 180, 360, 540]
    assert (scene[200:500, 200:300] == 90).all()


def test_a_large_scene_keeps_its_size():
    picture = draw_people(grey(700, 800), [], 'title')
    assert picture.shape[1] == 800
    assert (picture[-700:] == 90).all()
    assert (picture[: len(picture) - 700] == PAPER).mean() > 0.8


def test_a_label_has_the_colour_of_its_box():
    box = np.array([100, 200, 200, 500.0])
    plain, labelled = (draw_people(grey(700, 800), [FramedPerson(box, COLOUR, text)], '')[-700:] for text in ('', '7'))
    assert not (plain[180:195, 100:115] == COLOUR).all(axis=2).any()
    assert (labelled[180:195, 100:115] == COLOUR).all(axis=2).mean() > 0.5


@pytest.mark.parametrize('box', [[-10, -10, 900, 900], [50, 50, 50, 50], [300, 300, 200, 100], [900, 900, 950, 950]])
def test_strange_boxes(box):
    person = FramedPerson(np.array(box, dtype=float), COLOUR, '7 0.50')
    assert draw_people(grey(700, 800), [person], '').shape[1] == 800


def test_panels_are_joined_in_rows_of_three():
    panels = [np.full((10, 20, 3), value, np.uint8) for value in range(4)]
    joined = join_panels(panels)
    assert joined.shape == (32, 84, 3)
    assert [int(joined[y, x, 0]) for y, x in ((0, 0), (9, 51), (5, 83), (31, 19))] == [0, 1, 2, 3]
    assert tuple(joined[11, 0]) == tuple(joined[0, 20]) == tuple(joined[31, 83]) == PAPER
    assert np.array_equal(join_panels(panels[:1]), panels[0])
