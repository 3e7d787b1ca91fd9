"""k-reciprocal re-ranking: a case by hand, the definition as plain loops over sets, and its part in the evaluation."""

from dataclasses import replace
from math import exp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmps_kd.errors import UserError
from mmps_kd.evaluation.functional import evaluate_search, k_reciprocal_distances


def test_two_pairs_by_hand():
    """Query 0 and 1 are each other's neighbours, and so are 3 and 4."""
    line = np.array([[1.0], [3.0], [4.0]])
    # d of the query: 1/16, 9/16, 1. V of the query and of 1 on (query, 1): (1, e^-1/16) and (e^-1/9, 1), of sum 1.
    query, one = np.array([1, exp(-1 / 16)]), np.array([exp(-1 / 9), 1])
    query, one = query / query.sum(), one / one.sum()
    jaccard = 1 - np.minimum(query, one).sum() / np.maximum(query, one).sum()
    expected = [0.7 * jaccard + 0.3 / 16, 0.7 + 0.3 * 9 / 16, 1.0]
    assert k_reciprocal_distances(np.zeros(1), line, k1=1, k2=1) == pytest.approx(expected, abs=1e-12)
    # With the expansion by two, the query and 1 have the same mean, and so have 3 and 4.
    expanded = k_reciprocal_distances(np.zeros(1), line, k1=1, k2=2, original_weight=0)
    assert expanded == pytest.approx([0, 1, 1], abs=1e-12)


def test_a_chain_of_neighbours_beats_a_nearer_stranger():
    """Three views of the query lie in a row; a stranger is nearer than the last of them, but has its own friends."""
    views, stranger = [[1.0, 0], [2.0, 0], [3.0, 0]], [0, -2.9]
    friends = [[0, -3.0], [0, -3.1], [0.1, -3.0]]
    candidates = np.array([*views[:2], stranger, views[2], *friends])
    distances = k_reciprocal_distances(np.zeros(2), candidates, k1=3, k2=2)
    assert distances.argsort(kind='stable').tolist()[:4] == [0, 1, 3, 2]


def slow_distances(query, candidates, k1, k2, weight):
    """The definition with sets and dictionaries."""
    points = [list(map(float, point)) for point in (query, *candidates)]
    everybody = range(len(points))
    d = [[sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) for q in points] for p in points]
    nearest = [sorted(everybody, key=lambda q, p=p: (q != p, d[p][q], q)) for p in everybody]
    d = [[value / (max(row) or 1) for value in row] for row in d]

    def reciprocal(p, k):
        return {q for q in nearest[p][: k + 1] if p in nearest[q][: k + 1]}

    encodings = []
    for p in everybody:
        members = reciprocal(p, k1)
        for q in reciprocal(p, k1):
            others = reciprocal(q, round(k1 / 2))
            if 3 * len(others & reciprocal(p, k1)) > 2 * len(others):
                members = members | others
        total = sum(exp(-d[p][q]) for q in members)
        encodings.append({q: exp(-d[p][q]) / total for q in members})

    def expanded(p):
        near = nearest[p][:k2]
        return [sum(encodings[q].get(r, 0) for q in near) / len(near) for r in everybody]

    mine, answer = expanded(0), []
    for p in everybody[1:]:
        pairs = list(zip(mine, expanded(p), strict=True))
        jaccard = 1 - sum(map(min, pairs)) / sum(map(max, pairs))
        answer.append((1 - weight) * jaccard + weight * d[0][p])
    return answer


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 30),
    st.integers(1, 9),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.booleans(),
)
def test_the_definition(seed, number, k1, k2, weight, ties):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 3, (number + 1, 2)) if ties else rng.standard_normal((number + 1, 3))
    distances = k_reciprocal_distances(points[0], points[1:], k1, k2, weight)
    expected = slow_distances(points[0], points[1:], k1, k2, weight)
    assert distances.shape == (number,)
    assert distances == pytest.approx(np.array(expected), abs=1e-6)
    assert (distances >= -1e-9).all()
    assert (distances <= 1 + 1e-9).all()


def test_equal_candidates_are_equally_far():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((40, 64), dtype=np.float32)
    points[[7, 20, 33]] = points[5]
    distances = k_reciprocal_distances(rng.standard_normal(64, dtype=np.float32), points, k1=39)
    assert len(set(distances[[5, 7, 20, 33]].tolist())) == 1
    same = k_reciprocal_distances(points[0], np.repeat(points[:1], 5, axis=0))
    assert same == pytest.approx(np.zeros(5), abs=1e-12)


def ranked_by_hand(results, protocol, num_reranked):
    """Similarities of a search with one query, in which its first boxes are re-ranked."""
    similarities = results.embeddings @ results.query_embeddings[0]
    first = np.argsort(-similarities, kind='stable')[:num_reranked]
    distances = k_reciprocal_distances(results.query_embeddings[0], results.embeddings[first])
    return [*first[np.argsort(distances, kind='stable')], *np.argsort(-similarities, kind='stable')[num_reranked:]]


@pytest.fixture
def crowd(tiny_search):
    """Sixty boxes in image b, of which number 57 overlaps the true box there; nobody in the other images."""
    results, protocol = tiny_search
    rng = np.random.default_rng(1)
    embeddings = rng.standard_normal((60, 8), dtype=np.float32)
    embeddings[40:] += 2 * rng.standard_normal(8, dtype=np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    (truth,) = [i for i, name in enumerate(protocol.gallery_images[protocol.truth_images].tolist()) if name == 'b']
    boxes = np.tile([[500.0, 500, 540, 580, 0.9]], (60, 1))
    boxes[57, :4] = protocol.truth_boxes[truth]
    num_dets = np.where(results.image_names == 'b', 60, 0)
    query = embeddings[40:41] + 0.3 * rng.standard_normal(8, dtype=np.float32)
    return replace(
        results, num_dets=num_dets, boxes=boxes, embeddings=embeddings, query_embeddings=query / np.linalg.norm(query)
    ), protocol


@pytest.mark.parametrize('num_reranked', [1, 10, 40, 60, 1000])
def test_the_first_boxes_of_a_query_are_reranked(crowd, num_reranked):
    results, protocol = crowd
    ranking = ranked_by_hand(results, protocol, num_reranked)
    assert sorted(ranking) == list(range(60))
    scores = evaluate_search(results, protocol, rerank=num_reranked)
    assert scores.first_hit.tolist() == [ranking.index(57) + 1]
    plain = evaluate_search(results, protocol).first_hit[0]
    assert num_reranked > 1 or scores.first_hit[0] == plain
    assert num_reranked == 1 or scores.first_hit[0] != plain, 'this example would show nothing'


@pytest.mark.parametrize('options', [dict(rerank=0), dict(rerank=9, weight_by_score=True)])
def test_wrong_options(tiny_search, options):
    with pytest.raises(UserError, match='rerank=.: give at least 1, and neither cbgm nor weight_by_score with it'):
        evaluate_search(*tiny_search, **options)
