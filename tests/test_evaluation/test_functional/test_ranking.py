"""The ranking of one query."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmps_kd.evaluation.functional import most_similar, rank_gallery


def test_hand_computed(tiny_search):
    ranked = rank_gallery(*tiny_search, 0, topk=4)
    assert ranked.image_names.tolist() == ['b', 'a', 'a', 'c']
    assert ranked.similarities.tolist() == np.array([0.9, 0.8, 0.7, 0.6], np.float32).tolist()
    assert ranked.scores.tolist() == [0.9, 0.8, 0.6, 0.9]
    assert ranked.is_match.tolist() == [False, True, False, False]
    assert ranked.boxes[1].tolist() == [0, 0, 40, 78]
    assert ranked.num_truths == 2


def test_threshold_and_short_gallery(tiny_search):
    ranked = rank_gallery(*tiny_search, 0, score_thr=0.4, topk=10)
    assert ranked.image_names.tolist() == ['b', 'b', 'a', 'a', 'c', 'b']
    assert ranked.is_match.tolist() == [True, False, True, False, False, False]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), query=st.integers(0, 5))
def test_agrees_with_the_loop(make_search, rank_oracle, seed, query):
    results, protocol = make_search(seed)
    similarities, labels, num_truths = rank_oracle(results, protocol, query)
    ranked = rank_gallery(results, protocol, query, topk=7)
    assert ranked.similarities.tolist() == similarities[:7]
    assert ranked.is_match.tolist() == [bool(label) for label in labels[:7]]
    assert ranked.num_truths == num_truths


@given(st.lists(st.integers(-3, 3), max_size=12), st.integers(1, 15))
def test_most_similar_first_and_ties_in_order(values, topk):
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))[:topk]
    assert most_similar(np.array(values, dtype=np.float32), topk).tolist() == expected
