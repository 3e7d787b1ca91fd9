"""Streams that are seeded by a key, against their definition."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmps_kd.randomness import isolated_rng, seed_rng

KEYS = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4)


def draw():
    return random.random(), np.random.random(), torch.rand(()).item()


@settings(max_examples=50, deadline=None)
@given(KEYS)
def test_a_key_always_gives_the_same_draws(key):
    seed_rng(*key)
    first = draw()
    draw()
    seed_rng(*key)
    assert draw() == first
    with isolated_rng(*key):
        assert draw() == first


def test_keys_that_differ_anywhere_give_other_draws_in_every_stream():
    keys = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 1, 0), (2**32 - 1, 0, 0)]
    drawn = []
    for key in keys:
        seed_rng(*key)
        drawn.append(draw())
    for stream in zip(*drawn, strict=True):
        assert len(set(stream)) == len(keys)


@pytest.mark.parametrize('fails', [False, True])
def test_afterwards_the_streams_go_on_where_they_were(fails):
    seed_rng(7)
    draw()
    expected = draw()
    seed_rng(7)
    draw()
    try:
        with isolated_rng(1):
            draw()
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert draw() == expected
