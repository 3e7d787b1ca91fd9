"""Detection figures without embeddings."""

import numpy as np
import pytest
import torch

from mmps_kd.evaluation.functional import EvaluationSet, GroundTruth
from mmps_kd.evaluation.metrics import PersonDetectionMetric


def test_figures_by_hand():
    box, far = [10.0, 10, 50, 90], [100.0, 10, 140, 90]
    truth = GroundTruth(
        image_names=np.array(['a.jpg', 'b.jpg']),
        num_boxes=np.array([2, 1]),
        boxes=np.array([box, far, box]),
        labelled=np.array([True, False, False]),
    )
    metric = PersonDetectionMetric()
    metric.dataset_meta = dict(evaluation=EvaluationSet({}, truth))
    # Of three people one is found, above a wrong detection; the third is below the threshold.
    for name, boxes, scores in [('b.jpg', [box], [0.3]), ('a.jpg', [box, [0.0, 0, 9, 9]], [0.9, 0.8])]:
        pred = dict(bboxes=torch.tensor(boxes), scores=torch.tensor(scores))
        metric.process({}, [dict(img_name=name, pred_instances=pred)])
    figures = metric.evaluate(size=2)
    assert figures['detection/det_ap'] == pytest.approx(1 / 3)
    assert figures['detection/det_recall'] == pytest.approx(1 / 3)
    assert figures['detection/det_recall_labelled'] == 1
