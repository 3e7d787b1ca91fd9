"""Whom detections found, and how people are named."""

import numpy as np
import torch
from mmengine.structures import InstanceData

from mmps_kd.visualization import draw_detections, draw_ground_truth, scene
from mmps_kd.visualization.scene import find_people
from mmps_kd.visualization.style import INK, MUTED, identity_colour

PEOPLE = InstanceData(
    bboxes=torch.tensor([[0, 0, 10, 20], [100, 0, 110, 20], [200, 0, 210, 20.0]]), pids=torch.tensor([7, -1, 9])
)


def find(*boxes):
    return find_people(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), PEOPLE).tolist()


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
    assert find_people(boxes, nobody).tolist() == [-2]
    assert find_people(boxes, None).tolist() == [-1]
    assert find_people(boxes[:0], PEOPLE).tolist() == []


def drawn(monkeypatch, draw, *arguments):
    """What is handed on to be drawn: heading, colours and labels."""
    seen = []
    monkeypatch.setattr(scene, 'draw_people', lambda image, people, heading: seen.append((people, heading)))
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
