"""Pairs against the ordinary search with the same similarities, and by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmps_kd.datasets import load_cuhk_sysu_evaluation, load_prw_evaluation
from mmps_kd.errors import UserError
from mmps_kd.evaluation.functional import PairResults, evaluate_pairs, evaluate_search, rank_gallery, rank_pairs

SEEDS = st.integers(0, 2**32 - 1)
FIELDS = ('mAP', 'topk', 'ap', 'recall', 'first_hit', 'hit_precision', 'hit_offsets', 'num_truths')


def as_pairs(results, protocol, rng=None) -> PairResults:
    """Every detection of an image for every query that lists it, in shuffled order of pairs."""
    ends = np.cumsum(results.num_dets)
    rows = {
        name: np.arange(end - count, end)
        for name, end, count in zip(results.image_names.tolist(), ends, results.num_dets, strict=True)
    }
    listed = [
        (query, name)
        for query in range(protocol.num_queries)
        for name in sorted({*protocol.gallery_images[protocol.entries[slice(*protocol.offsets[query : query + 2])]]})
    ]
    if rng is not None:
        rng.shuffle(listed)
    picked = np.concatenate([rows[name] for _, name in listed])
    similarities = [results.embeddings[rows[name]] @ results.query_embeddings[query] for query, name in listed]
    return PairResults(
        query_ids=np.array([query for query, _ in listed]),
        image_names=np.array([name for _, name in listed]),
        num_dets=np.array([len(rows[name]) for _, name in listed]),
        boxes=results.boxes[picked],
        similarities=np.concatenate(similarities).astype(np.float32),
    )


def assert_same(found, expected):
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field), err_msg=field)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, size=st.sampled_from([(6, 8, 5), (15, 30, 2), (1, 4, 4)]), chunk=st.sampled_from([1, 40, 2**24]))
def test_same_figures_as_the_search_with_these_similarities(make_search, seed, size, chunk):
    results, protocol = make_search(seed, *size)
    rng = np.random.default_rng(seed)
    assert_same(
        evaluate_pairs(as_pairs(results, protocol, rng), protocol, topk=(1, 2, 7), chunk_size=chunk),
        evaluate_search(results, protocol, topk=(1, 2, 7)),
    )


def test_each_query_has_detections_of_its_own(tiny_search):
    """Two queries search the same images; what the model finds there depends on the query."""
    _, protocol = tiny_search
    protocol = replace(
        protocol,
        query_images=np.array(['q', 'r']),
        query_boxes=np.tile(protocol.query_boxes, (2, 1)),
        query_pids=np.array([7, 8]),
        offsets=np.array([0, 2, 4]),
        entries=np.array([0, 1, 0, 1], dtype=np.int32),
        truth_offsets=np.array([0, 1, 2]),
        truth_images=np.array([0, 1], dtype=np.int32),
        truth_boxes=np.array([[0.0, 0, 40, 80], [0, 0, 40, 80]]),
    )
    right, wrong = [0, 0, 40, 80], [200, 0, 240, 80]
    results = PairResults(
        query_ids=np.array([1, 0, 0, 1]),
        image_names=np.array(['b', 'a', 'b', 'a']),
        num_dets=np.array([1, 2, 1, 0]),
        boxes=np.array([[*right, 0.9], [*right, 0.6], [*right, 0.4], [*wrong, 0.7]]),
        similarities=np.array([0.1, 0.5, 0.9, 0.8], np.float32),
    )
    # Query 0: its person at 0.5 (the box of score 0.4 takes no part), a wrong box at 0.8. Query 1: alone at 0.1.
    scores = evaluate_pairs(results, protocol, topk=(1, 2))
    assert scores.ap.tolist() == [0.5, 1.0]
    assert scores.topk == {1: 0.5, 2: 1.0}
    assert evaluate_pairs(results, protocol, score_thr=0.4).ap.tolist() == [1.0, 1.0]


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_only_the_order_of_similarities_counts(make_search, seed):
    """Differences far below single precision are told apart, equal similarities stay equal."""
    results, protocol = make_search(seed)
    pairs = as_pairs(results, protocol)
    squeezed = replace(pairs, similarities=1 - 1e-9 * (40 - pairs.similarities.astype(np.float64)))
    assert_same(evaluate_pairs(squeezed, protocol), evaluate_search(results, protocol))


def test_ranking_of_one_query(make_search):
    results, protocol = make_search(3, ties=False)
    pairs = as_pairs(results, protocol, np.random.default_rng(0))
    for query in range(protocol.num_queries):
        expected = rank_gallery(results, protocol, query)
        found = rank_pairs(pairs, protocol, query)
        assert found.image_names.tolist() == expected.image_names.tolist()
        assert found.boxes.tolist() == expected.boxes.tolist()
        assert found.is_match.tolist() == expected.is_match.tolist()


def test_a_missing_pair_is_named(tiny_search):
    results, protocol = tiny_search
    pairs = as_pairs(results, protocol)
    short = replace(
        pairs, query_ids=pairs.query_ids[:-1], image_names=pairs.image_names[:-1], num_dets=pairs.num_dets[:-1]
    )
    with pytest.raises(UserError, match=r"lack the pair of query 0 \('q'\) and image 'd', 1 of 4 pairs in all"):
        evaluate_pairs(short, protocol)


def test_pairs_of_no_use_are_ignored_and_repeated_ones_named(tiny_search):
    results, protocol = tiny_search
    pairs = as_pairs(results, protocol)

    def with_pair(name):
        return replace(
            pairs,
            query_ids=np.append(pairs.query_ids, 0),
            image_names=np.append(pairs.image_names, name),
            num_dets=np.append(pairs.num_dets, 0),
        )

    assert_same(evaluate_pairs(with_pair('elsewhere'), protocol), evaluate_search(results, protocol))
    with pytest.raises(UserError, match=r"hold the pair of query 0 \('q'\) and image 'b' twice"):
        evaluate_pairs(with_pair('b'), protocol)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(num_dets=np.zeros(3, int)), '4 query_ids, 4 image_names and 3 num_dets'),
        (dict(num_dets=np.array([2, 3, 1, 1])), 'num_dets add up to 7, but there are 6 boxes and 6 similarities'),
        (dict(similarities=np.zeros(5, np.float32)), 'there are 6 boxes and 5 similarities'),
        (dict(similarities=np.array([0, 0, 0, np.nan, 0, 0])), "similarities of query 0 in image 'b' hold NaN"),
        (dict(boxes=np.full((6, 5), np.inf)), "boxes of query 0 in image 'a' hold NaN or infinity"),
    ],
)
def test_arrays_that_do_not_fit(tiny_search, change, message):
    results, protocol = tiny_search
    with pytest.raises(UserError, match=message):
        evaluate_pairs(replace(as_pairs(results, protocol), **change), protocol)


def test_query_without_true_box_is_named(tiny_search):
    results, protocol = tiny_search
    lost = replace(
        protocol, truth_offsets=np.array([0, 0]), truth_images=np.zeros(0, np.int32), truth_boxes=np.zeros((0, 4))
    )
    with pytest.raises(UserError, match=r'person 7\) has no true box in its gallery'):
        evaluate_pairs(as_pairs(results, protocol), lost)


@pytest.mark.parametrize('which', ['cuhk-sysu', 'prw-mini'])
def test_real_protocols(shared_data, make_results, tmp_path, which):
    """A handful of detections for the real galleries, those that list an image twice among them."""
    if which == 'cuhk-sysu':
        folder = tmp_path / 'annotation/test/train_test'
        folder.mkdir(parents=True)
        (folder / 'TestG100.mat').symlink_to(shared_data / 'TestG100.mat')
        protocol = load_cuhk_sysu_evaluation(tmp_path).protocols['gallery_100']
    else:
        protocol = load_prw_evaluation(shared_data, shared_data / 'prwmini_query_info.txt').protocols['prw']
    results = make_results(np.random.default_rng(0), protocol)
    assert_same(evaluate_pairs(as_pairs(results, protocol), protocol), evaluate_search(results, protocol))
