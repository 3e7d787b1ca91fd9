"""Context bipartite graph matching against enumeration of all matchings."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmps_kd.errors import UserError
from mmps_kd.evaluation.functional import CBGM, QueryContext, evaluate_search
from mmps_kd.evaluation.functional.cbgm import query_context, rerank
from mmps_kd.evaluation.functional.gallery import Gallery


def best_matching(weights: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of the heaviest matching that uses up the smaller side."""
    rows, cols = weights.shape
    if rows <= cols:
        options = [list(zip(range(rows), chosen, strict=True)) for chosen in permutations(range(cols), rows)]
    else:
        options = [list(zip(chosen, range(cols), strict=True)) for chosen in permutations(range(rows), cols)]
    return max(options, key=lambda pairs: sum(weights[i, j] for i, j in pairs))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    k1=st.integers(1, 12),
    k2=st.integers(1, 4),
    rule=st.sampled_from(['total', 'strongest']),
)
def test_agrees_with_enumeration(seed, k1, k2, rule):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 5, 5)
    images = np.repeat(np.arange(5), counts)
    embeddings = rng.standard_normal((len(images), 3)).astype(np.float32)
    gallery = Gallery(np.cumsum([0, *counts]), counts, images, np.zeros((len(images), 5)), embeddings)
    queries = rng.standard_normal((2, 3)).astype(np.float32)
    people = rng.integers(0, 4, 2)
    context = QueryContext(
        people,
        rng.permutation(people.sum())[:, None] * np.ones(5),
        rng.standard_normal((people.sum(), 3)).astype(np.float32),
    )
    values = queries @ embeddings.T
    values[:, images == 4] = -np.inf  # an image that is not listed
    expected = values.copy()
    for query in range(2):
        mine = slice(0, people[0]) if query == 0 else slice(people[0], None)
        order = np.argsort(-context.boxes[mine, 4])[: k2 - 1]
        group = np.vstack([queries[query], context.embeddings[mine][order]])
        ranked = [c for c in np.argsort(-values[query])[:k1] if np.isfinite(values[query, c])]
        for image in {images[c] for c in ranked}:
            columns = np.flatnonzero(images == image)
            weights = group @ embeddings[columns].T
            pairs = best_matching(weights)
            pair_weights = [weights[i, j] for i, j in pairs]
            for i, j in pairs:
                if i == 0:
                    expected[query, columns[j]] = sum(pair_weights) if rule == 'total' else max(pair_weights)
    rerank(values, 0, queries, gallery, context, CBGM(k1, k2, rule))
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)


def two_friends(tiny_search):
    """The query's friend is seen in image b alone, beside a weak view of the query."""
    results, protocol = tiny_search
    results = replace(
        results,
        num_dets=np.array([0, 1, 2, 1]),
        boxes=np.array(
            [
                [0, 0, 40, 80, 0.9],  # c: somebody similar
                [200, 0, 240, 80, 0.9],  # b: the friend
                [10, 10, 50, 90, 0.9],  # b: the query
                [0, 0, 40, 80, 0.9],  # a: the query, seen well
            ]
        ),
        embeddings=np.array([[0.8, 0.0], [0.0, 1.0], [0.6, 0.2], [0.9, 0.0]], np.float32),
        query_embeddings=np.array([[1.0, 0.0]], np.float32),
    )
    context = QueryContext(np.array([1]), np.array([[0.0, 0, 9, 9, 0.9]]), np.array([[0.0, 1.0]], np.float32))
    return replace(results, query_context=context), protocol


def test_context_lifts_the_companion(tiny_search):
    results, protocol = two_friends(tiny_search)
    assert evaluate_search(results, protocol).ap.tolist() == pytest.approx([(1 + 2 / 3) / 2])
    # b's query box now has 0.6 + 1.0 and leads; a keeps 0.9, c 0.8.
    assert evaluate_search(results, protocol, cbgm=CBGM(k1=10, k2=2)).ap.tolist() == [1.0]
    # One person a group, or b out of the k1 most similar: as before.
    assert evaluate_search(results, protocol, cbgm=CBGM(k1=10, k2=1)).ap.tolist() == pytest.approx([5 / 6])
    assert evaluate_search(results, protocol, cbgm=CBGM(k1=2, k2=2)).ap.tolist() == pytest.approx([5 / 6])


def test_people_of_the_query_image_are_taken_from_the_results(tiny_search):
    results, protocol = two_friends(tiny_search)
    context = results.query_context
    own_image = np.vstack([[[0, 0, 10, 20, 0.9]], context.boxes, [[50, 0, 60, 20, 0.4]]])
    results = replace(
        results,
        image_names=np.append(results.image_names, 'q'),
        num_dets=np.append(results.num_dets, 3),
        boxes=np.vstack([results.boxes, own_image]),
        embeddings=np.vstack([results.embeddings, [[1, 0]], context.embeddings, [[1, 1]]]).astype(np.float32),
        query_context=None,
    )
    # The box on the query itself and the one below the threshold are left out.
    found = query_context(results, protocol, score_thr=0.5)
    assert found.num_people.tolist() == [1]
    np.testing.assert_array_equal(found.boxes, context.boxes)
    np.testing.assert_array_equal(found.embeddings, context.embeddings)
    assert evaluate_search(results, protocol, cbgm=CBGM(k1=10, k2=2)).ap.tolist() == [1.0]


def test_missing_context_is_named(tiny_search):
    results, protocol = tiny_search
    with pytest.raises(UserError, match="CBGM needs the people of query image 'q'"):
        evaluate_search(results, protocol, cbgm=CBGM())


@pytest.mark.parametrize('settings', [dict(k1=0), dict(k2=0), dict(similarity='mean')])
def test_wrong_settings(settings):
    with pytest.raises(UserError, match='CBGM'):
        CBGM(**settings)
