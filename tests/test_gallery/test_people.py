"""People and their likeness to a query."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmps_kd.gallery import People, rank_people


def some(*scores):
    n = len(scores)
    return People(np.arange(4.0 * n).reshape(n, 4), np.array(scores), np.arange(2.0 * n).reshape(n, 2))


def test_pick_and_join():
    one, two = some(0.1, 0.9, 0.5), some(0.7)
    joined = People.join([one[one.scores > 0.3], two, some()])
    assert len(joined) == 3
    assert joined.scores.tolist() == [0.9, 0.5, 0.7]
    assert joined.boxes.tolist() == [[4, 5, 6, 7], [8, 9, 10, 11], [0, 1, 2, 3]]
    assert joined.embeddings.tolist() == [[2, 3], [4, 5], [0, 1]]


def test_most_similar_first_and_ties_in_order():
    embeddings = np.array([[0.6, 0.8], [1, 0], [-1, 0], [0.6, -0.8]])
    order, similarities = rank_people(embeddings, np.array([1.0, 0.0]), 3)
    assert order.tolist() == [1, 0, 3]
    assert similarities.tolist() == [1.0, 0.6, 0.6]


@given(arrays(np.int8, st.tuples(st.integers(0, 8), st.just(2))), st.integers(1, 10))
def test_against_sorting(embeddings, topk):
    query = np.array([1.0, 2.0])
    values = [float(e @ query) for e in embeddings]
    order, similarities = rank_people(embeddings.astype(float), query, topk)
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))[:topk]
    assert order.tolist() == expected
    assert similarities.tolist() == [values[i] for i in expected]
