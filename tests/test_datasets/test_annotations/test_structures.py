import numpy as np

from mmps_kd.datasets.annotations import Annotations, corners

PEOPLE = Annotations(
    image_names=np.array(['a', 'b', 'c', 'd']),
    num_boxes=np.array([2, 0, 1, 2]),
    boxes=np.array([[0, 0, 2, 2], [1, 1, 1, 5], [3, 3, 9, 3], [0, 0, 1, 1], [5, 5, 7, 7]], dtype=np.float64),
    pids=np.array([4, 5, 6, -1, 8]),
    image_sizes=np.array([[10, 1], [10, 2], [10, 3], [10, 4]]),
)


def test_corners_adds_the_size_to_the_position():
    np.testing.assert_array_equal(corners(np.array([[1.0, 2, 10, 20]])), [[1, 2, 11, 22]])


def test_image_of_box_skips_empty_images():
    assert PEOPLE.image_of_box.tolist() == [0, 0, 2, 3, 3]


def test_of_images_keeps_the_boxes_of_the_kept_images():
    kept = PEOPLE.of_images(np.array([False, True, True, True]))
    assert kept.image_names.tolist() == ['b', 'c', 'd']
    assert kept.num_boxes.tolist() == [0, 1, 2]
    assert kept.pids.tolist() == [6, -1, 8]
    np.testing.assert_array_equal(kept.boxes, PEOPLE.boxes[2:])
    np.testing.assert_array_equal(kept.image_sizes, [[10, 2], [10, 3], [10, 4]])


def test_without_empty_boxes_drops_zero_width_and_zero_height():
    kept = PEOPLE.without_empty_boxes()
    assert kept.pids.tolist() == [4, -1, 8]
    assert kept.num_boxes.tolist() == [1, 0, 0, 2]


def test_ground_truth_lists_images_without_people_and_says_who_is_labelled():
    truth = PEOPLE.ground_truth()
    assert truth.image_names.tolist() == ['a', 'b', 'c', 'd']
    assert truth.num_boxes.tolist() == [1, 0, 0, 2]
    assert truth.labelled.tolist() == [True, False, True]
