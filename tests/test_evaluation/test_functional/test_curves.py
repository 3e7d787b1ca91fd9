"""Interpolated precision, against its definition."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmps_kd.evaluation.functional import mean_precision_at_recall


def by_definition(precisions, truths, recall):
    reached = [p for place, p in enumerate(precisions, start=1) if place / truths >= recall - 1e-9]
    return max(reached, default=0.0)


def test_hand_computed():
    values = mean_precision_at_recall(
        np.array([1.0, 0.5, 0.6]), np.array([0, 3, 3]), np.array([4, 2]), np.array([0, 0.25, 0.5, 0.75, 0.76])
    )
    assert values.tolist() == [0.5, 0.5, 0.3, 0.3, 0.0]


@given(
    queries=st.lists(st.tuples(st.lists(st.floats(0.01, 1), max_size=6), st.integers(0, 4)), min_size=1, max_size=4),
    recall=st.integers(0, 100),
)
def test_agrees_with_the_definition(queries, recall):
    queries = [(hits, max(1, len(hits) + missed)) for hits, missed in queries]
    value = mean_precision_at_recall(
        np.array([p for hits, _ in queries for p in hits]),
        np.cumsum([0, *(len(hits) for hits, _ in queries)]),
        np.array([truths for _, truths in queries]),
        np.array([recall / 100]),
    )
    expected = np.mean([by_definition(hits, truths, recall / 100) for hits, truths in queries])
    np.testing.assert_allclose(value, [expected], atol=1e-12)
