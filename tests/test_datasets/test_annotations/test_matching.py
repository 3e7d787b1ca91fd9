import numpy as np
import pytest
from mmengine.logging import MMLogger

from mmps_kd.datasets.annotations import Annotations
from mmps_kd.datasets.annotations.matching import with_identities
from mmps_kd.errors import UserError

PEOPLE = Annotations(
    image_names=np.array(['b', 'a']),
    num_boxes=np.array([3, 1]),
    boxes=np.array([[0, 0, 2, 2], [1, 1, 4, 5], [1, 1, 4, 5], [0, 0, 2, 2]], dtype=np.float64),
    pids=np.full(4, -1),
)


def match(*appearances: tuple) -> list[int]:
    names, boxes, pids = (np.array(column) for column in zip(*appearances, strict=True))
    return with_identities(PEOPLE, names, boxes.astype(np.float64), pids, 'Train.mat').pids.tolist()


def test_the_box_is_looked_up_in_its_own_image():
    assert match(('a', [0, 0, 2, 2], 7)) == [-1, -1, -1, 7]


def test_the_first_of_equal_boxes_gets_the_identity():
    assert match(('b', [1, 1, 4, 5], 3), ('b', [0, 0, 2, 2], 0)) == [0, 3, -1, -1]


def test_a_box_that_is_not_there_gives_no_identity_and_is_counted(caplog: pytest.LogCaptureFixture):
    MMLogger.get_instance('strangers').addHandler(caplog.handler)
    assert match(('b', [1, 1, 4, 6], 3), ('a', [1, 1, 4, 5], 4), ('a', [0, 0, 2, 2], 5)) == [-1, -1, -1, 5]
    assert 'Train.mat: 2 of 3 boxes are not in Images.mat' in caplog.text
    assert 'first [1.0, 1.0, 4.0, 6.0] (x1, y1, x2, y2) in b' in caplog.text


def test_an_image_that_is_not_there_is_an_error():
    with pytest.raises(UserError, match=r'Train\.mat names c, which Images\.mat does not list'):
        match(('c', [0, 0, 2, 2], 0))


def test_agrees_with_a_search_box_by_box():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 6, 20)
    boxes = rng.integers(0, 3, (counts.sum(), 4)).astype(np.float64)
    people = Annotations(np.array([f's{i}' for i in range(20)]), counts, boxes, np.full(len(boxes), -1))
    images, wanted, pids = rng.integers(0, 20, 200), rng.integers(0, 3, (200, 4)).astype(np.float64), np.arange(200)
    expected = people.pids.copy()
    for image, box, pid in zip(images, wanted, pids, strict=True):
        for i in np.flatnonzero(people.image_of_box == image):
            if (boxes[i] == box).all():
                expected[i] = pid
                break
    assert (expected >= 0).any()
    got = with_identities(people, people.image_names[images], wanted, pids, 'x').pids
    np.testing.assert_array_equal(got, expected)
