"""Search figures against hand-computed values and the field's loop."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mmps_kd.datasets import load_cuhk_sysu_evaluation
from mmps_kd.errors import UserError
from mmps_kd.evaluation.functional import SearchProtocol, SearchResults, evaluate_search

SEEDS = st.integers(0, 2**32 - 1)


def figures(scores):
    return [scores.mAP, *scores.topk.values(), *scores.ap, *scores.recall, *scores.first_hit]


def reorder(results, images, rng=None):
    """The same results with the images in another order, and with ``rng`` the detections within each too."""
    ends = np.cumsum(results.num_dets)
    rows = [np.arange(end - count, end) for end, count in zip(ends, results.num_dets, strict=True)]
    rows = [rows[i] if rng is None else rng.permutation(rows[i]) for i in images]
    picked = np.concatenate(rows).astype(int)
    return replace(
        results,
        image_names=results.image_names[images],
        num_dets=results.num_dets[images],
        boxes=results.boxes[picked],
        embeddings=results.embeddings[picked],
    )


def one_query(protocol, query):
    """The protocol of a single query, over all gallery images."""
    entries = slice(protocol.offsets[query], protocol.offsets[query + 1])
    truths = slice(protocol.truth_offsets[query], protocol.truth_offsets[query + 1])
    return replace(
        protocol,
        query_images=protocol.query_images[query : query + 1],
        query_boxes=protocol.query_boxes[query : query + 1],
        query_pids=protocol.query_pids[query : query + 1],
        offsets=np.array([0, entries.stop - entries.start]),
        entries=protocol.entries[entries],
        truth_offsets=np.array([0, truths.stop - truths.start]),
        truth_images=protocol.truth_images[truths],
        truth_boxes=protocol.truth_boxes[truths],
    )


def test_hand_computed(tiny_search):
    scores = evaluate_search(*tiny_search, topk=(1, 2, 5))
    # True positives stand 2nd (a's better box) and 5th (b's right box): (1/2 + 2/5) / 2 truths.
    assert scores.ap.tolist() == pytest.approx([0.45])
    assert scores.mAP == pytest.approx(0.45)
    assert scores.topk == {1: 0.0, 2: 1.0, 5: 1.0}
    assert scores.recall.tolist() == [1.0]
    assert scores.first_hit.tolist() == [2]
    assert scores.hit_precision.tolist() == pytest.approx([0.5, 0.4])
    assert scores.num_truths.tolist() == [2]
    assert scores.num_queries == 1


def test_a_miss_lowers_recall_only(tiny_search):
    scores = evaluate_search(*tiny_search, score_thr=0.55)
    assert scores.recall.tolist() == [0.5]
    assert scores.ap.tolist() == pytest.approx([0.25])


def test_lower_threshold_lets_the_best_box_in(tiny_search):
    scores = evaluate_search(*tiny_search, score_thr=0.4)
    # The box of score 0.4 (similarity 1.0) becomes b's true positive: ranks 1 and 3.
    assert scores.ap.tolist() == pytest.approx([(1 + 2 / 3) / 2])


def test_confidence_weighted_similarity(tiny_search):
    results, protocol = tiny_search
    # 0.9 x 0.9, 0.8 x 0.8, 0.6 x 0.9, 0.7 x 0.6, 0.5 x 0.5: right boxes stand 2nd and 5th.
    assert evaluate_search(results, protocol, weight_by_score=True).ap.tolist() == pytest.approx([0.45])
    boxes = results.boxes.copy()
    boxes[1, 4] = 0.5  # the wrong box of b: 0.9 x 0.5 falls behind 0.64 and 0.54
    scores = evaluate_search(replace(results, boxes=boxes), protocol, weight_by_score=True)
    assert scores.first_hit.tolist() == [1]
    assert scores.ap.tolist() == pytest.approx([(1 + 2 / 5) / 2])


def test_small_people_need_less_overlap(tiny_search):
    results, protocol = tiny_search
    # A 10 x 10 box: 100 / 400 = 0.25 is enough.
    truth = np.array([[0.0, 0, 10, 10], [10, 10, 50, 90]])
    boxes = results.boxes.copy()
    boxes[4:, :4] = [[0, 0, 20, 20], [300, 300, 320, 320]]
    protocol = replace(protocol, truth_boxes=truth)
    assert evaluate_search(replace(results, boxes=boxes), protocol).recall.tolist() == [1.0]
    boxes[4, :4] = [0, 0, 20, 20.5]
    assert evaluate_search(replace(results, boxes=boxes), protocol).recall.tolist() == [0.5]


def test_image_listed_twice_counts_twice_and_is_scored_once(tiny_search):
    results, protocol = tiny_search
    protocol = replace(
        protocol,
        offsets=np.array([0, 5]),
        entries=np.array([0, 1, 2, 3, 0], dtype=np.int32),
        truth_offsets=np.array([0, 3]),
        truth_images=np.array([0, 1, 0], dtype=np.int32),
        truth_boxes=np.vstack([protocol.truth_boxes, [[300.0, 0, 340, 80]]]),
    )
    scores = evaluate_search(results, protocol)
    assert scores.ap.tolist() == pytest.approx([(1 / 2 + 2 / 5) / 3])
    assert scores.recall.tolist() == pytest.approx([2 / 3])


def test_tied_boxes_share_precision_and_stand_in_listed_order(tiny_search):
    results, protocol = tiny_search
    results = replace(results, embeddings=np.ones_like(results.embeddings))
    scores = evaluate_search(results, protocol)
    # One threshold for all five boxes: precision 2/5 at full recall. First listed is a, its first box is right.
    assert scores.ap.tolist() == pytest.approx([0.4])
    assert scores.first_hit.tolist() == [1]
    listed_last = replace(protocol, entries=np.array([2, 3, 1, 0], dtype=np.int32))
    scores = evaluate_search(results, listed_last)
    # c has one box, b a wrong one before its right one.
    assert scores.ap.tolist() == pytest.approx([0.4])
    assert scores.first_hit.tolist() == [3]


def test_no_detection_anywhere(tiny_search):
    results, protocol = tiny_search
    empty = SearchResults(
        results.image_names, np.zeros(4, int), np.zeros((0, 5)), np.zeros((0, 1), np.float32), results.query_embeddings
    )
    assert figures(evaluate_search(empty, protocol)) == [0.0] * 7
    assert figures(evaluate_search(results, protocol, score_thr=1.5)) == [0.0] * 7


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, listed=st.integers(1, 8), thr=st.sampled_from([0.0, 0.5, 0.6]), weighted=st.booleans())
def test_agrees_with_the_loop(make_search, search_oracle, seed, listed, thr, weighted):
    results, protocol = make_search(seed, listed=listed)
    if weighted:  # powers of two: products stay exact, and so do ties
        results.boxes[:, 4] = np.where(results.boxes[:, 4] > 0.5, 1.0, 0.5)
    scores = evaluate_search(results, protocol, score_thr=thr, weight_by_score=weighted)
    aps, topk = search_oracle(results, protocol, score_thr=thr, weighted=weighted)
    np.testing.assert_allclose(scores.ap, aps, atol=1e-12)
    assert scores.topk == pytest.approx(topk)
    assert scores.mAP == pytest.approx(aps.mean())


@pytest.mark.parametrize('listed', [5, 100])
def test_sparse_and_dense_galleries_agree_with_the_loop(make_search, search_oracle, listed):
    # 5 of 100 images listed: products image by image; all listed: one product.
    results, protocol = make_search(3, queries=12, images=100, listed=listed)
    aps, topk = search_oracle(results, protocol)
    scores = evaluate_search(results, protocol)
    np.testing.assert_allclose(scores.ap, aps, atol=1e-12)
    assert scores.topk == pytest.approx(topk)


def test_real_protocol_agrees_with_the_loop(make_results, search_oracle, shared_data, tmp_path):
    """Queries of TestG100.mat, among them one with an image listed twice (1633) and one with its own image (2132)."""
    folder = tmp_path / 'annotation/test/train_test'
    folder.mkdir(parents=True)
    (folder / 'TestG100.mat').symlink_to(shared_data.resolve() / 'TestG100.mat')
    whole = load_cuhk_sysu_evaluation(tmp_path, [100]).protocols['gallery_100']
    results = make_results(np.random.default_rng(0), whole)
    scores = evaluate_search(results, whole)
    for query in [0, 493, 1633, 1997, 2132, 2899]:
        part = one_query(whole, query)
        single = replace(results, query_embeddings=results.query_embeddings[query : query + 1])
        aps, topk = search_oracle(single, part, topk=(1, 5, 10, 50))
        assert scores.ap[query] == pytest.approx(aps[0], abs=1e-12)
        assert [0 < scores.first_hit[query] <= k for k in topk] == [bool(hit) for hit in topk.values()]


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, listed=st.sampled_from([2, 30]), chunk_size=st.integers(1, 400))
def test_chunk_size_changes_nothing(make_search, seed, listed, chunk_size):
    results, protocol = make_search(seed, images=30, listed=listed)
    expected = figures(evaluate_search(results, protocol))
    assert figures(evaluate_search(results, protocol, chunk_size=chunk_size)) == expected


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_order_of_images_changes_nothing(make_search, seed):
    results, protocol = make_search(seed)
    images = np.random.default_rng(seed).permutation(len(results.image_names))
    expected = figures(evaluate_search(results, protocol))
    assert figures(evaluate_search(reorder(results, images), protocol)) == expected


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_order_of_detections_changes_nothing(make_search, seed):
    results, protocol = make_search(seed, ties=False)
    # Similarities closer than single precision tells apart may change places with the order of summation.
    exact = results.query_embeddings.astype(np.float64) @ results.embeddings.astype(np.float64).T
    assume((np.diff(np.sort(exact, axis=1), axis=1) > 1e-5).all())
    rng = np.random.default_rng(seed)
    shuffled = reorder(results, np.arange(len(results.image_names)), rng)
    np.testing.assert_allclose(
        figures(evaluate_search(shuffled, protocol)), figures(evaluate_search(results, protocol)), atol=1e-12
    )


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_order_of_detections_changes_no_ap_even_with_ties(make_search, seed):
    results, protocol = make_search(seed)
    shuffled = reorder(results, np.arange(len(results.image_names)), np.random.default_rng(seed))
    assert evaluate_search(shuffled, protocol).ap.tolist() == evaluate_search(results, protocol).ap.tolist()


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_a_detection_below_the_threshold_changes_nothing(make_search, seed):
    results, protocol = make_search(seed)
    num_dets = results.num_dets.copy()
    num_dets[-1] += 1
    more = replace(
        results,
        num_dets=num_dets,
        boxes=np.vstack([results.boxes, [[0, 0, 30, 60, 0.49]]]),
        embeddings=np.vstack([results.embeddings, 9 * np.ones((1, 4), np.float32)]),
    )
    assert figures(evaluate_search(more, protocol)) == figures(evaluate_search(results, protocol))


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, right=st.booleans())
def test_all_correct_is_one_and_all_wrong_is_zero(make_search, seed, right):
    _, protocol = make_search(seed, queries=1)
    keep = np.unique(protocol.truth_images, return_index=True)[1]
    protocol = replace(
        protocol,
        truth_offsets=np.array([0, len(keep)]),
        truth_images=protocol.truth_images[keep],
        truth_boxes=protocol.truth_boxes[keep],
    )
    others = np.setdiff1d(np.arange(len(protocol.gallery_images)), protocol.truth_images)
    images = np.concatenate([protocol.truth_images, others])
    boxes = np.vstack([protocol.truth_boxes, np.tile([0.0, 0, 30, 60], (len(others), 1))])
    similarities = np.where(np.arange(len(images)) < len(keep), 1.0, -1.0)
    if not right:
        boxes = boxes + 1000
    results = SearchResults(
        image_names=protocol.gallery_images[images],
        num_dets=np.ones(len(images), int),
        boxes=np.column_stack([boxes, np.ones(len(images))]),
        embeddings=similarities[:, None].astype(np.float32),
        query_embeddings=np.ones((1, 1), np.float32),
    )
    scores = evaluate_search(results, protocol)
    assert [scores.mAP, *scores.topk.values()] == [float(right)] * 4


@pytest.mark.parametrize('images', [300, 4000])
def test_equal_embeddings_tie_wherever_they_stand(images):
    """A matrix product may round equal rows differently; here 300 copies of one embedding must tie."""
    rng = np.random.default_rng(0)
    names = np.array([f'{i:04d}' for i in range(images)])
    protocol = SearchProtocol(
        query_images=np.array(['q']),
        query_boxes=np.zeros((1, 4)),
        query_pids=np.zeros(1, int),
        gallery_images=names,
        offsets=np.array([0, 300]),
        entries=np.arange(300, dtype=np.int32),
        truth_offsets=np.array([0, 1]),
        truth_images=np.array([150], dtype=np.int32),
        truth_boxes=np.array([[0.0, 0, 40, 80]]),
    )
    results = SearchResults(
        names,
        (np.arange(images) < 300).astype(int),
        np.tile([0.0, 0, 40, 80, 1], (300, 1)),
        np.tile(rng.standard_normal(257).astype(np.float32), (300, 1)),
        rng.standard_normal((1, 257)).astype(np.float32),
    )
    scores = evaluate_search(results, protocol)
    assert scores.ap.tolist() == [1 / 300]
    assert scores.first_hit.tolist() == [151]


def test_query_without_true_box_is_named(tiny_search):
    results, protocol = tiny_search
    lost = replace(
        protocol,
        truth_offsets=np.array([0, 0]),
        truth_images=np.zeros(0, np.int32),
        truth_boxes=np.zeros((0, 4)),
    )
    with pytest.raises(UserError, match=r"query 0 \('q', person 7\) has no true box in its gallery"):
        evaluate_search(results, lost)
