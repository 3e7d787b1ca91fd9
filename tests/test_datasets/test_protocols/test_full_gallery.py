import numpy as np
import pytest

from mmps_kd.datasets.annotations import Annotations
from mmps_kd.datasets.protocols import full_gallery_protocol
from mmps_kd.errors import UserError


def random_people(seed: int) -> Annotations:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 5, 30)
    total = counts.sum()
    boxes = np.cumsum(rng.integers(0, 4, (total, 2, 2)), axis=1).reshape(total, 4).astype(np.float64)  # some empty
    return Annotations(np.array([f'{i}.jpg' for i in range(30)]), counts, boxes, rng.integers(-1, 6, total))


def brute_force(people: Annotations, image: str, pid: int, cameras: np.ndarray | None) -> tuple[list, list]:
    own = people.image_names.tolist().index(image)
    gallery, truth, box = [], [], 0
    for i, count in enumerate(people.num_boxes):
        rows = range(box, box + count)
        box += count
        if i == own or (cameras is not None and cameras[i] == cameras[own]):
            continue
        gallery.append(i)
        for row in rows:
            x1, y1, x2, y2 = people.boxes[row]
            if people.pids[row] == pid and x2 > x1 and y2 > y1:
                truth.append((i, x1, y1, x2, y2))
                break
    return gallery, truth


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('by_camera', [False, True])
def test_agrees_with_a_loop_over_images_and_boxes(seed: int, by_camera: bool):
    people = random_people(seed)
    cameras = np.arange(30) % 3 if by_camera else None
    images, pids = people.image_names[[3, 3, 17, 20]], np.array([0, 1, 2, 5])
    boxes = np.arange(16.0).reshape(4, 4)
    protocol = full_gallery_protocol(people, images, boxes, pids, 'queries', cameras)
    np.testing.assert_array_equal(protocol.query_boxes, boxes)
    for q in range(4):
        gallery, truth = brute_force(people, images[q], pids[q], cameras)
        assert protocol.entries[protocol.offsets[q] : protocol.offsets[q + 1]].tolist() == gallery
        rows = slice(protocol.truth_offsets[q], protocol.truth_offsets[q + 1])
        found = np.column_stack([protocol.truth_images[rows], protocol.truth_boxes[rows]])
        assert [tuple(row) for row in found.tolist()] == truth


def test_unlabelled_people_are_nobodys_true_boxes():
    people = Annotations(np.array(['a', 'b']), np.array([1, 1]), np.array([[0, 0, 2, 2.0]] * 2), np.array([-1, -1]))
    with pytest.raises(UserError, match=r'query\.txt: query absent from the gallery.*pid -1 in a'):
        full_gallery_protocol(people, np.array(['a']), np.zeros((1, 4)), np.array([-1]), 'query.txt')


def test_a_query_image_must_be_a_test_image():
    people = random_people(0)
    with pytest.raises(UserError, match=r'query\.txt: query image x\.jpg is not among the test images'):
        full_gallery_protocol(people, np.array(['x.jpg']), np.zeros((1, 4)), np.array([1]), 'query.txt')
