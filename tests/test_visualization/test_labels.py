"""Labels of boxes: inside of the picture, beside people, not on each other."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmps_kd.visualization.labels import covered, place_labels

CANVAS = (400, 300)
SIZE = np.array([[50.0, 20.0]])


def place(*boxes):
    return place_labels(np.array(boxes, dtype=float), SIZE.repeat(len(boxes), axis=0), CANVAS).tolist()


def test_above_the_box_where_there_is_room():
    assert place([100, 100, 160, 250]) == [[100, 80, 150, 100]]


def test_another_place_where_somebody_is_above():
    head = [90, 60, 200, 140]  # covers all the places above the other
    assert place([100, 150, 160, 250], head)[0] == [100, 250, 150, 270]


def test_two_of_one_place_do_not_cover_each_other():
    labels = np.array(place([100, 100, 140, 250], [102, 101, 142, 250], [104, 102, 144, 250]))
    for index in range(3):
        assert covered(labels[[index]], np.delete(labels, index, axis=0)) == 0


def test_a_box_as_large_as_the_picture():
    assert place([0, 0, 400, 300]) == [[0, 280, 50, 300]]  # at the feet, not on the face


def test_no_boxes():
    assert place_labels(np.zeros((0, 4)), np.zeros((0, 2)), CANVAS).shape == (0, 4)


def test_covered_sums_shares():
    halves = np.array([[0, 0, 10, 10], [20, 0, 30, 10.0]])
    others = np.array([[5, 0, 15, 10], [0, 0, 10, 2], [100, 100, 101, 101.0]])
    assert covered(halves, others).tolist() == [0.7, 0.0]


coordinate = st.floats(-50, 450)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(coordinate, coordinate, st.floats(0, 200), st.floats(0, 300)), min_size=1, max_size=12))
def test_labels_keep_their_size_and_stay_in_the_picture(rows):
    boxes = np.array([[x, y, x + width, y + height] for x, y, width, height in rows])
    labels = place_labels(boxes, SIZE.repeat(len(boxes), axis=0), CANVAS)
    assert np.allclose(labels[:, 2:] - labels[:, :2], SIZE)
    assert (labels >= 0).all()
    assert (labels[:, 2:] <= CANVAS).all()
