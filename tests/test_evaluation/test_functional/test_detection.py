"""Detection figures against hand-computed values and the field's loop."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmps_kd.errors import UserError
from mmps_kd.evaluation.functional import GroundTruth, SearchResults, evaluate_detection


def make_results(boxes_by_image: dict[str, list]) -> SearchResults:
    boxes = np.array([box for boxes in boxes_by_image.values() for box in boxes], dtype=np.float64).reshape(-1, 5)
    return SearchResults(
        image_names=np.array(list(boxes_by_image)),
        num_dets=np.array([len(boxes) for boxes in boxes_by_image.values()]),
        boxes=boxes,
        embeddings=np.zeros((len(boxes), 1), np.float32),
        query_embeddings=np.zeros((0, 1), np.float32),
    )


def make_truth(people_by_image: dict[str, list]) -> GroundTruth:
    """People are x1, y1, x2, y2, labelled."""
    people = np.array([p for people in people_by_image.values() for p in people], dtype=np.float64).reshape(-1, 5)
    return GroundTruth(
        image_names=np.array(list(people_by_image)),
        num_boxes=np.array([len(people) for people in people_by_image.values()]),
        boxes=people[:, :4],
        labelled=people[:, 4] > 0,
    )


def detection_by_loops(results, truth, score_thr, iou_thr, overlap, average_precision, labelled_only):
    """AP x recall, and recall, image by image."""
    detections, index = {}, 0
    for name, count in zip(results.image_names.tolist(), results.num_dets, strict=True):
        detections[name] = [b for b in results.boxes[index : index + count].tolist() if b[4] >= score_thr]
        index += count
    scores, labels, total, index = [], [], 0, 0
    for name, count in zip(truth.image_names.tolist(), truth.num_boxes, strict=True):
        people = truth.boxes[index : index + count]
        if labelled_only:
            people = people[truth.labelled[index : index + count]]
        index += count
        if labelled_only and not len(people):
            continue
        total += len(people)
        found = detections[name]
        grid = [[overlap(box, person) for box in found] for person in people.tolist()]
        for j, box in enumerate(found):
            column = [row[j] for row in grid]
            person = column.index(max(column)) if column else None
            good = person is not None and column[person] >= iou_thr and grid[person].index(max(grid[person])) == j
            scores.append(box[4])
            labels.append(int(good))
    if not any(labels):
        return 0.0, 0.0
    recall = sum(labels) / total
    return average_precision(scores, labels) * recall, recall


def test_hand_computed():
    truth = make_truth({'a': [[0, 0, 10, 10, 1], [100, 0, 110, 10, 0]], 'b': [], 'c': [[0, 0, 10, 10, 1]]})
    results = make_results(
        {
            'a': [[0, 0, 10, 10, 0.9], [100, 0, 110, 8, 0.6]],
            'b': [[0, 0, 10, 10, 0.8]],
            'c': [],
        }
    )
    scores = evaluate_detection(results, truth)
    assert scores.recall == pytest.approx(2 / 3)
    assert scores.ap == pytest.approx((1 / 1 + 2 / 3) / 3)
    # Labelled people only: image b does not count, the unlabelled person of image a is a wrong detection.
    assert scores.recall_labelled == pytest.approx(1 / 2)
    assert scores.ap_labelled == pytest.approx((1 / 1) / 2)
    assert evaluate_detection(results, truth, score_thr=0.7).recall == pytest.approx(1 / 3)
    assert evaluate_detection(results, truth, iou_thr=0.81).recall == pytest.approx(1 / 3)


def test_second_box_on_a_person_is_wrong():
    truth = make_truth({'a': [[0, 0, 10, 10, 1]]})
    results = make_results({'a': [[0, 0, 10, 9, 0.9], [0, 0, 10, 10, 0.8]]})
    scores = evaluate_detection(results, truth)
    # The better-placed box counts, although the other one is more confident.
    assert (scores.ap, scores.recall) == (0.5, 1.0)


def test_box_goes_to_its_best_person_alone():
    truth = make_truth({'a': [[0, 0, 10, 10, 1], [0, 0, 10, 8, 1]]})
    results = make_results({'a': [[0, 0, 10, 10, 0.9]]})
    assert evaluate_detection(results, truth).recall == 0.5


def test_equal_scores_share_one_threshold():
    truth = make_truth({'a': [[0, 0, 10, 10, 1]]})
    results = make_results({'a': [[50, 0, 60, 10, 0.9], [0, 0, 10, 10, 0.9], [70, 0, 80, 10, 0.9]]})
    assert evaluate_detection(results, truth).ap == pytest.approx(1 / 3)


def test_nothing_found_and_nobody_labelled():
    truth = make_truth({'a': [[0, 0, 10, 10, 0]]})
    scores = evaluate_detection(make_results({'a': []}), truth)
    assert [scores.ap, scores.recall, scores.ap_labelled, scores.recall_labelled] == [0.0] * 4


def test_missing_image_is_named():
    truth = make_truth({'a': [[0, 0, 10, 10, 0]], 'b': []})
    with pytest.raises(UserError, match="test image 'b' is not in the results"):
        evaluate_detection(make_results({'a': []}), truth)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), score_thr=st.sampled_from([0.0, 0.5]), iou_thr=st.sampled_from([0.3, 0.5]))
def test_agrees_with_the_loop(overlap_oracle, precision_oracle, seed, score_thr, iou_thr):
    rng = np.random.default_rng(seed)
    people, found = {}, {}
    for image in 'abcd':
        corners = rng.integers(0, 20, (rng.integers(0, 4), 2))
        people[image] = [[*c, *(c + rng.integers(6, 20, 2)), rng.integers(0, 2)] for c in corners]
        found[image] = [
            [*(np.array(p[:4]) + rng.integers(-2, 3, 4)), rng.choice([0.2, 0.5, 0.7, 0.9])]
            for p in people[image]
            for _ in range(rng.integers(0, 3))
        ]
        corners = rng.integers(0, 20, (rng.integers(0, 3), 2))
        found[image] += [[*c, *(c + rng.integers(6, 20, 2)), rng.choice([0.2, 0.5, 0.7, 0.9])] for c in corners]
    truth, results = make_truth(people), make_results(found)
    scores = evaluate_detection(results, truth, score_thr=score_thr, iou_thr=iou_thr)
    parts = (truth, score_thr, iou_thr, overlap_oracle, precision_oracle)
    expected = [*detection_by_loops(results, *parts, False), *detection_by_loops(results, *parts, True)]
    assert [scores.ap, scores.recall, scores.ap_labelled, scores.recall_labelled] == pytest.approx(expected, abs=1e-12)


def test_a_wrong_box_in_an_ignored_region_does_not_count():
    truth = make_truth({'a': [[0, 0, 10, 20, 1]], 'b': [[0, 0, 10, 20, 0]]})
    regions = dict(ignored_images=np.array([1]), ignored_boxes=np.array([[0.0, 0, 40, 40]]))
    found = {
        'a': [[0, 0, 10, 20, 0.5], [20, 20, 30, 30, 0.9]],  # image a has no region: wrong
        'b': [[0, 0, 10, 20, 0.8], [35, 0, 45, 10, 0.7], [36, 0, 46, 10, 0.6]],  # a person; half inside; less than half
    }
    scores = evaluate_detection(make_results(found), replace(truth, **regions))
    # By score: wrong, right, not counted, wrong, right.
    assert (scores.ap, scores.recall) == pytest.approx(((1 / 2 + 2 / 4) / 2, 1.0))
    assert evaluate_detection(make_results(found), truth).ap == pytest.approx((1 / 2 + 2 / 5) / 2)
