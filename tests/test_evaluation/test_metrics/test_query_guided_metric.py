"""Pairs on their way from samples to figures and files."""

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmps_kd.errors import UserError
from mmps_kd.evaluation import QueryGuidedSearchMetric
from mmps_kd.evaluation.functional import EvaluationSet, PairResults, SearchProtocol, evaluate_pairs, rank_pairs

BOX = [10.0, 10, 50, 90]
FAR = [100.0, 10, 140, 90]


def protocol():
    """Queries in a.jpg and b.jpg; the person of the first is in c.jpg, that of the second in a.jpg."""
    return SearchProtocol(
        query_images=np.array(['a.jpg', 'b.jpg']),
        query_boxes=np.array([BOX, BOX]),
        query_pids=np.array([0, 1]),
        gallery_images=np.array(['a.jpg', 'b.jpg', 'c.jpg']),
        offsets=np.array([0, 2, 4]),
        entries=np.array([1, 2, 0, 2], dtype=np.int32),
        truth_offsets=np.array([0, 1, 2]),
        truth_images=np.array([2, 0], dtype=np.int32),
        truth_boxes=np.array([BOX, FAR]),
    )


def sample(name, **pairs):
    """One image's prediction; ``q0=[(box, score, similarity), ...]`` is what was found for query 0."""
    found = [
        InstanceData(
            bboxes=torch.tensor([box for box, _, _ in dets]).reshape(-1, 4),
            scores=torch.tensor([score for _, score, _ in dets]),
            similarities=torch.tensor([similarity for _, _, similarity in dets], dtype=torch.float16),
        )
        for dets in pairs.values()
    ]
    query_ids = torch.tensor([int(key[1:]) for key in pairs], dtype=torch.long)
    return dict(img_name=name, pair_query_ids=query_ids, pred_pairs=found)


SAMPLES = [
    sample('c.jpg', q0=[(BOX, 0.9, 0.5), (FAR, 0.8, 0.75)], q1=[(BOX, 0.9, 0.25)]),
    sample('b.jpg', q0=[]),
    sample('a.jpg', q1=[(FAR, 0.4, 1.0), (FAR, 0.6, 0.125)]),
    sample('d.jpg'),
]


def run(samples=SAMPLES, **kwargs):
    metric = QueryGuidedSearchMetric(**kwargs)
    metric.dataset_meta = dict(evaluation=EvaluationSet(dict(main=protocol())))
    for item in samples:
        metric.process({}, [item])
    figures = metric.evaluate(size=len(samples))
    assert list(figures) == [f'search/{name}' for name in metric.figure_names]
    return figures, metric


def test_figures_by_hand():
    figures, _ = run(topk=(1, 2))
    # Query 0: its person at 0.5 behind a wrong box at 0.75. Query 1: the box at 1.0 is below the score threshold,
    # so that the person stands at 0.125 behind c.jpg's box at 0.25. Both AP 1/2.
    assert figures == {'search/mAP': 0.5, 'search/top1': 0.0, 'search/top2': 1.0}
    assert run(topk=(1,), score_thr=0.4)[0] == {'search/mAP': 0.75, 'search/top1': 0.5}


def test_main_protocol_is_named_in_the_table(monkeypatch):
    printed = []
    module = 'mmps_kd.evaluation.metrics.search_metric'
    monkeypatch.setattr(f'{module}.print_log', lambda text, **kwargs: printed.append(text))
    run()
    assert '| main       | 50.00 | 0.00  | 100.00 | 100.00 |' in printed[0].splitlines()


def test_an_image_given_to_two_processes_counts_once():
    assert run([*SAMPLES, SAMPLES[0]])[0] == run()[0]


def test_queries_of_an_image_may_come_in_several_blocks():
    apart = [
        sample('c.jpg', q1=[(BOX, 0.9, 0.25)]),
        *SAMPLES[1:],
        sample('c.jpg', q0=[(BOX, 0.9, 0.5), (FAR, 0.8, 0.75)]),
    ]
    assert run(apart)[0] == run()[0]


def test_a_missing_pair_is_named():
    with pytest.raises(UserError, match=r"lack the pair of query 0 \('a\.jpg'\) and image 'b\.jpg'"):
        run([SAMPLES[0], *SAMPLES[2:]])


def test_file_can_be_scored_without_the_model(tmp_path):
    path = tmp_path / 'new' / 'pairs.npz'
    figures, metric = run(out_file=str(path))
    results = PairResults(**np.load(path))
    assert evaluate_pairs(results, protocol()).mAP == figures['search/mAP']
    assert results.similarities.tolist() == metric.last_results.similarities.tolist()
    with pytest.raises(UserError, match=r'pairs\.pkl must end in \.npz'):
        QueryGuidedSearchMetric(out_file='pairs.pkl')


def test_ranking_of_the_last_results():
    ranked = run()[1].rank(query=0, topk=5)
    assert ranked.image_names.tolist() == ['c.jpg', 'c.jpg']
    assert ranked.boxes.tolist() == [FAR, BOX]
    assert ranked.is_match.tolist() == [False, True]


def test_file_names_the_threshold_of_the_model(tmp_path):
    metric = QueryGuidedSearchMetric(out_file=str(tmp_path / 'pairs.npz'))
    metric.model_score_thr = 0.5
    metric.dataset_meta = dict(evaluation=EvaluationSet(dict(main=protocol())))
    metric.process({}, SAMPLES)
    metric.evaluate(size=len(SAMPLES))
    results = PairResults(**np.load(tmp_path / 'pairs.npz'))
    assert evaluate_pairs(results, protocol(), score_thr=0.5).mAP == 0.5
    for score in (lambda: evaluate_pairs(results, protocol(), score_thr=0.4), lambda: low_ranking(results)):
        with pytest.raises(UserError, match=r'own score_thr of 0\.5 drops .* no figure at 0\.4'):
            score()


def low_ranking(results):
    return rank_pairs(results, protocol(), 0, score_thr=0.4)
