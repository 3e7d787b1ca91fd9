"""Annotated boxes in place of detections."""

import numpy as np

from mmps_kd.evaluation.functional import GroundTruth, evaluate_detection, evaluate_search, ground_truth_results


def test_perfect_detector(tiny_search):
    _, protocol = tiny_search
    truth = GroundTruth(
        image_names=np.array(['a', 'b', 'c', 'd']),
        num_boxes=np.array([2, 1, 1, 0]),
        boxes=np.array([[0.0, 0, 40, 80], [60, 0, 90, 80], [10, 10, 50, 90], [0, 0, 9, 9]]),
        labelled=np.array([True, False, True, False]),
    )
    embeddings = np.array([[0.9], [0.5], [0.4], [0.1]])
    results = ground_truth_results(truth, embeddings, np.array([[1.0]]))
    detection = evaluate_detection(results, truth, score_thr=1.0)
    assert (detection.ap, detection.recall, detection.recall_labelled) == (1.0, 1.0, 1.0)
    assert evaluate_search(results, protocol).ap.tolist() == [(1 + 2 / 3) / 2]
