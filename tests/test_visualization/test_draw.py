"""Drawing: colours, fonts, labelled boxes, and positions of labels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.structures import InstanceData

from mmps_kd.visualization import draw_detections, draw_ground_truth
from mmps_kd.visualization.draw import (
    INK,
    MUTED,
    PAPER,
    LabelledBox,
    covered,
    draw_boxes,
    font,
    identity_colour,
    join_panels,
    match_detections,
    place_labels,
    readable_on,
)


def test_colours_are_the_same_in_every_picture():
    # Hue 0, then 0.618 of the circle on: written down, so that pictures of two releases can be compared.
    assert identity_colour(0) == (194, 10, 10)
    assert identity_colour(1) == (37, 97, 244)
    assert identity_colour(-1) == identity_colour(-2) == MUTED


def test_neighbouring_identities_differ():
    colours = np.array([identity_colour(pid) for pid in range(40)], dtype=int)
    for window in (colours[start : start + 6] for start in range(34)):
        distances = np.abs(window[:, None] - window[None]).sum(axis=2) + 999 * np.eye(6)
        assert distances.min() > 60


def test_no_identity_is_grey():
    colours = np.array([identity_colour(pid) for pid in range(1000)])
    assert (np.ptp(colours, axis=1) > 100).all()


@pytest.mark.parametrize('colour', [identity_colour(pid) for pid in range(-1, 100)])
def test_letters_stand_out(colour):
    def luminance(rgb):
        channels = np.array(rgb) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    letters = readable_on(colour)
    assert letters in (INK, PAPER)
    dark, light = sorted((luminance(colour), luminance(letters)))
    assert (light + 0.05) / (dark + 0.05) > 3.4


def test_letters_come_with_the_package():
    assert font(14).getlength('✓') > 0
    assert font(14, bold=True).getname() == ('DejaVu Sans', 'Bold')


COLOUR = (200, 0, 100)


def grey(height, width):
    return np.full((height, width, 3), 90, np.uint8)


def test_a_small_scene_is_enlarged_with_its_boxes():
    person = LabelledBox(np.array([20, 30, 60, 90.0]), COLOUR, '')
    picture = draw_boxes(grey(100, 200), [person], 'title')
    assert picture.shape[1] == 1200
    scene = picture[-600:]
    ys, xs = (scene == COLOUR).all(axis=2).nonzero()
    assert [xs.min(), ys.min(), xs.max(), ys.max()] == [120, 180, 360, 540]
    assert (scene[200:500, 200:300] == 90).all()


def test_a_large_scene_keeps_its_size():
    picture = draw_boxes(grey(700, 800), [], 'title')
    assert picture.shape[1] == 800
    assert (picture[-700:] == 90).all()
    assert (picture[: len(picture) - 700] == PAPER).mean() > 0.8


def test_a_label_has_the_colour_of_its_box():
    box = np.array([100, 200, 200, 500.0])
    plain, labelled = (draw_boxes(grey(700, 800), [LabelledBox(box, COLOUR, text)], '')[-700:] for text in ('', '7'))
    assert not (plain[180:195, 100:115] == COLOUR).all(axis=2).any()
    assert (labelled[180:195, 100:115] == COLOUR).all(axis=2).mean() > 0.5


@pytest.mark.parametrize('box', [[-10, -10, 900, 900], [50, 50, 50, 50], [300, 300, 200, 100], [900, 900, 950, 950]])
def test_strange_boxes(box):
    person = LabelledBox(np.array(box, dtype=float), COLOUR, '7 0.50')
    assert draw_boxes(grey(700, 800), [person], '').shape[1] == 800


def test_panels_are_joined_in_rows_of_three():
    panels = [np.full((10, 20, 3), value, np.uint8) for value in range(4)]
    joined = join_panels(panels)
    assert joined.shape == (32, 84, 3)
    assert [int(joined[y, x, 0]) for y, x in ((0, 0), (9, 51), (5, 83), (31, 19))] == [0, 1, 2, 3]
    assert tuple(joined[11, 0]) == tuple(joined[0, 20]) == tuple(joined[31, 83]) == PAPER
    assert np.array_equal(join_panels(panels[:1]), panels[0])


PEOPLE = InstanceData(
    bboxes=torch.tensor([[0, 0, 10, 20], [100, 0, 110, 20], [200, 0, 210, 20.0]]), pids=torch.tensor([7, -1, 9])
)


def find(*boxes):
    return match_detections(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), PEOPLE).tolist()


def test_a_person_is_found_by_overlap():
    assert find([0, 0, 10, 20], [100, 0, 110, 20], [50, 0, 60, 20]) == [7, -1, -2]


def test_half_an_overlap_is_enough():
    assert find([200, 0, 210, 10]) == [9]
    assert find([200, 0, 210, 9.9]) == [-2]


def test_only_the_best_of_two_detections_counts():
    assert find([0, 0, 10, 18], [0, 0, 10, 19]) == [-2, 7]


def test_nobody_there_and_nobody_known():
    nobody = PEOPLE[:0]
    boxes = torch.tensor([[0, 0, 10, 20.0]])
    assert match_detections(boxes, nobody).tolist() == [-2]
    assert match_detections(boxes, None).tolist() == [-1]
    assert match_detections(boxes[:0], PEOPLE).tolist() == []


def drawn(monkeypatch, draw, *arguments):
    """What is handed on to be drawn: heading, colours and labels."""
    seen = []
    monkeypatch.setattr(
        'mmps_kd.visualization.draw.draw_boxes', lambda image, people, heading: seen.append((people, heading))
    )
    draw(np.zeros((50, 300, 3), np.uint8), *arguments)
    ((people, heading),) = seen
    return heading, [(person.colour, person.label) for person in people]


def test_true_people_are_named(monkeypatch):
    heading, people = drawn(monkeypatch, draw_ground_truth, PEOPLE)
    assert heading == 'annotated: 3 people, 2 with identity'
    assert people == [(identity_colour(7), '7'), (MUTED, ''), (identity_colour(9), '9')]


def test_detections_have_the_colour_of_whom_they_found(monkeypatch):
    boxes = torch.tensor([[0, 0, 10, 20], [100, 0, 110, 20], [50, 0, 60, 20.0]])
    found = InstanceData(bboxes=boxes, scores=torch.tensor([0.987, 0.5, 0.404]))
    heading, people = drawn(monkeypatch, draw_detections, found, PEOPLE, 'student')
    assert heading == 'student: 2 people, 1 with identity, 1 false'
    assert people == [(identity_colour(7), '7 0.99'), (MUTED, '0.50'), (INK, '✗ 0.40')]
    heading, people = drawn(monkeypatch, draw_detections, found[:1], None)
    assert heading == 'found: 1 person'
    assert people == [(MUTED, '0.99')]


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
