"""MMEngine's face of the evaluation: from data samples to figures and files."""

import numpy as np
import pytest
import torch

from mmps_kd.errors import UserError
from mmps_kd.evaluation import SearchMetric
from mmps_kd.evaluation.functional import EvaluationSet, GroundTruth, SearchProtocol, evaluate_search, load_results

BOX = [10.0, 10, 50, 90]
FAR = [100.0, 10, 140, 90]


def protocol(entries=((1, 2), (0, 2))):
    """Queries in a.jpg and b.jpg; the person of the first is in c.jpg, that of the second in a.jpg."""
    return SearchProtocol(
        query_images=np.array(['a.jpg', 'b.jpg']),
        query_boxes=np.array([BOX, BOX]),
        query_pids=np.array([0, 1]),
        gallery_images=np.array(['a.jpg', 'b.jpg', 'c.jpg']),
        offsets=np.array([0, 2, 4]),
        entries=np.array(entries, dtype=np.int32).ravel(),
        truth_offsets=np.array([0, 1, 2]),
        truth_images=np.array([2, 0], dtype=np.int32),
        truth_boxes=np.array([BOX, FAR]),
    )


def ground_truth():
    return GroundTruth(
        image_names=np.array(['a.jpg', 'b.jpg', 'c.jpg']),
        num_boxes=np.array([2, 1, 1]),
        boxes=np.array([BOX, FAR, BOX, BOX]),
        labelled=np.array([True, True, True, False]),
    )


def sample(name, boxes, scores, angles, queries=()):
    """One image's prediction; embeddings are points on the unit circle, given by their angle in degrees."""
    angles = torch.deg2rad(torch.tensor(angles, dtype=torch.float32))
    pred = dict(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor(scores),
        embeddings=torch.stack([angles.cos(), angles.sin()], 1),
    )
    out = dict(img_name=name, pred_instances=pred)
    if queries:
        ids, query_angles = zip(*queries, strict=True)
        query_angles = torch.deg2rad(torch.tensor(query_angles, dtype=torch.float32))
        embeddings = torch.stack([query_angles.cos(), query_angles.sin()], 1)
        out['pred_queries'] = dict(query_ids=torch.tensor(ids), embeddings=embeddings)
    return out


SAMPLES = [
    sample('c.jpg', [BOX, FAR], [0.9, 0.8], [20, 60]),
    sample('b.jpg', [BOX], [0.9], [10], queries=[(1, 90)]),
    sample('a.jpg', [BOX, FAR], [0.9, 0.4], [0, 80], queries=[(0, 0)]),
]


def run(evaluation, samples=SAMPLES, **kwargs):
    metric = SearchMetric(**kwargs)
    metric.dataset_meta = dict(evaluation=evaluation)
    for item in samples:
        metric.process({}, [item])
    figures = metric.evaluate(size=len(samples))
    assert list(figures) == [f'search/{name}' for name in metric.figure_names]
    return figures, metric


def test_figures_by_hand():
    figures, _ = run(EvaluationSet(dict(main=protocol()), ground_truth()), topk=(1, 2))
    # Query 0 (0 degrees): b.jpg's box at 10 degrees comes before the match at 20 degrees: AP 1/2.
    # Query 1: its person in a.jpg has a score of 0.4, below the threshold: not found, AP 0.
    assert figures['search/mAP'] == pytest.approx(0.25)
    assert (figures['search/top1'], figures['search/top2']) == (0, 0.5)
    # Three of four people are found, by the detections of scores 0.9; c.jpg's second one is wrong, at 0.8.
    assert figures['search/det_recall'] == pytest.approx(0.75)
    assert figures['search/det_ap'] == pytest.approx(0.75)
    assert figures['search/det_recall_labelled'] == pytest.approx(2 / 3)


def test_a_lower_threshold_lets_the_second_query_succeed():
    figures, _ = run(EvaluationSet(dict(main=protocol())), score_thr=0.4)
    assert figures['search/mAP'] == pytest.approx(0.75)
    assert 'search/det_ap' not in figures


def test_detection_has_a_threshold_of_its_own():
    evaluation = EvaluationSet(dict(main=protocol()), ground_truth())
    figures, _ = run(evaluation, det_score_thr=0.4)
    assert figures['search/det_recall'] == 1
    assert figures['search/mAP'] == pytest.approx(0.25)


def test_reranking_is_an_option():
    evaluation = EvaluationSet(dict(main=protocol()))
    # Among so few boxes all are neighbours of each other: the order stays.
    assert run(evaluation, rerank=9)[0]['search/mAP'] == pytest.approx(0.25)
    with pytest.raises(UserError, match='rerank=0: give at least 1'):
        run(evaluation, rerank=0)


def test_order_of_images_does_not_matter():
    evaluation = EvaluationSet(dict(main=protocol()), ground_truth())
    assert run(evaluation)[0] == run(evaluation, SAMPLES[::-1])[0]


def test_several_protocols_from_one_pass():
    small = protocol(entries=((2, 2), (0, 0)))
    figures, _ = run(EvaluationSet(dict(gallery_2=protocol(), gallery_1=small)))
    assert figures['search/mAP'] == figures['search/gallery_2/mAP'] == pytest.approx(0.25)
    assert figures['search/gallery_1/mAP'] == pytest.approx(0.5)


def test_file_can_be_scored_without_the_model(tmp_path):
    path = tmp_path / 'new' / 'results.npz'
    figures, metric = run(EvaluationSet(dict(main=protocol())), out_file=str(path))
    results = load_results(path)
    assert results.query_images.tolist() == ['a.jpg', 'b.jpg']
    assert evaluate_search(results, protocol()).mAP == pytest.approx(figures['search/mAP'])
    assert np.array_equal(results.embeddings, metric.last_results.embeddings)


def test_image_without_detection():
    samples = [sample('b.jpg', [], [], [], queries=[(1, 90)]), *SAMPLES[::2]]
    figures, _ = run(EvaluationSet(dict(main=protocol())), samples)
    assert figures['search/mAP'] == pytest.approx(0.5)


def test_results_file_of_another_kind():
    with pytest.raises(UserError, match=r'results\.pkl must end in \.npz'):
        SearchMetric(out_file='results.pkl')


def test_file_names_the_threshold_of_the_model(tmp_path):
    metric = SearchMetric(out_file=str(tmp_path / 'results.npz'))
    metric.model_score_thr = 0.5
    metric.dataset_meta = dict(evaluation=EvaluationSet(dict(main=protocol())))
    metric.process({}, SAMPLES)
    metric.evaluate(size=len(SAMPLES))
    assert load_results(tmp_path / 'results.npz').score_thr == 0.5
