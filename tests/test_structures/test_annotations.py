import numpy as np
import pytest

from mmps_kd.errors import UserError
from mmps_kd.structures import Annotations, corners
from mmps_kd.structures.annotations import validate_image_names

FIVE_BOXES = Annotations(
    image_names=np.array(['a', 'b', 'c', 'd']),
    num_boxes=np.array([2, 0, 1, 2]),
    boxes=np.array([[0, 0, 2, 2], [1, 1, 1, 5], [3, 3, 9, 3], [0, 0, 1, 1], [5, 5, 7, 7]], dtype=np.float64),
    pids=np.array([4, 5, 6, -1, 8]),
    image_sizes=np.array([[10, 1], [10, 2], [10, 3], [10, 4]]),
)


def test_corners_adds_the_size_to_the_position():
    np.testing.assert_array_equal(corners(np.array([[1.0, 2, 10, 20]])), [[1, 2, 11, 22]])


def test_image_of_box_skips_empty_images():
    assert FIVE_BOXES.image_of_box.tolist() == [0, 0, 2, 3, 3]


def test_of_images_keeps_the_boxes_of_the_kept_images():
    kept = FIVE_BOXES.of_images(np.array([False, True, True, True]))
    assert kept.image_names.tolist() == ['b', 'c', 'd']
    assert kept.num_boxes.tolist() == [0, 1, 2]
    assert kept.pids.tolist() == [6, -1, 8]
    np.testing.assert_array_equal(kept.boxes, FIVE_BOXES.boxes[2:])
    np.testing.assert_array_equal(kept.image_sizes, [[10, 2], [10, 3], [10, 4]])


def test_without_empty_boxes_drops_zero_width_and_zero_height():
    kept = FIVE_BOXES.without_empty_boxes()
    assert kept.pids.tolist() == [4, -1, 8]
    assert kept.num_boxes.tolist() == [1, 0, 0, 2]


def test_ground_truth_lists_images_without_boxes_and_which_boxes_are_labelled():
    truth = FIVE_BOXES.ground_truth()
    assert truth.image_names.tolist() == ['a', 'b', 'c', 'd']
    assert truth.num_boxes.tolist() == [1, 0, 0, 2]
    assert truth.labelled.tolist() == [True, False, True]


def test_identities_in_one_image_only():
    boxes, pids = np.tile([0.0, 0, 4, 4], (6, 1)), np.array([3, 3, 5, 7, -1, 5])
    found = Annotations(np.array(['a', 'b']), np.array([3, 3]), boxes, pids)
    assert found.single_image_pids().tolist() == [3, 7]


# Names


def annotate(*names: str) -> Annotations:
    boxes = np.tile([0.0, 0, 4, 4], (len(names), 1))
    return Annotations(np.array(names), np.ones(len(names), int), boxes, np.full(len(names), -1))


def test_valid_annotations_are_returned():
    given = annotate('a.jpg', 'b/c..jpg', '..d.jpg', 'ü 人.jpg', '人\u3000\u00a0\u202f\u200d\ufeff.jpg', '12:30:05.jpg')
    assert given.validate('x.json') is given


def test_an_image_listed_twice_is_an_error():
    with pytest.raises(UserError, match=r'x\.json lists image a\.jpg 2 times'):
        annotate('a.jpg', 'b.jpg', 'a.jpg').validate('x.json')


@pytest.mark.parametrize(
    'name', ['../a.jpg', '/a.jpg', 'b/../../a.jpg', '..', '.', '', 'b\\..\\..\\a.jpg', '\\a.jpg', 'C:/a.jpg', 'c:a.jpg']
)
def test_a_name_that_leads_elsewhere_is_an_error(name: str):
    with pytest.raises(UserError, match=r"x\.json names '.*': names are relative") as caught:
        validate_image_names(['fine.jpg', name], 'x.json')
    assert str(caught.value).isprintable()


@pytest.mark.parametrize('name', ['a\nb', '\x1b[2J', 'a\0b', '\udcff', 'a\u2028b'])
def test_a_name_with_control_characters_is_an_error(name: str):
    with pytest.raises(UserError, match=r"x\.json names '.*', which holds a control character") as caught:
        validate_image_names([name], 'x.json')
    assert str(caught.value).isprintable()


@pytest.mark.parametrize('name', ['x' * 248, 'x/' * 600 + 'a.jpg'])
def test_a_name_that_no_disk_can_hold_is_an_error(name: str):
    validate_image_names(['x' * 247, 'x/' * 400 + 'a.jpg'], 'x.json')
    with pytest.raises(UserError, match='too long for a file'):
        validate_image_names([name], 'x.json')
