"""Deterministic seeding per iteration and per sample.

A random generator that is seeded anew for each piece of work has no state to save: a resumed run draws the numbers
that an uninterrupted run draws.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

TRAINING, LOADING = 1, 2
"""First number of a key: what the random numbers are for, so that no two uses share a seed."""


def seed_rng(*key: int) -> None:
    """Seed the global generators of Python, NumPy and torch, on the CPU and on every GPU.

    Args:
        key: What is done: :data:`TRAINING`, run seed, rank, iteration. Each in 0..2**32 - 1; different keys of one
            length give independent seeds.
    """
    torch.manual_seed(_seed_python_and_numpy(key))


@contextmanager
def isolated_rng(*key: int) -> Iterator[None]:
    """Seed the global generators of the CPU by ``key`` inside a block; their states of before are restored after it.

    Args:
        key: As for :func:`seed_rng`: :data:`LOADING`, run seed, epoch, sample.
    """
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    # torch.manual_seed would seed the GPUs too, which data loading must not touch.
    torch.default_generator.manual_seed(_seed_python_and_numpy(key))
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def _seed_python_and_numpy(key: tuple[int, ...]) -> int:
    """Seed Python and NumPy; returns the seed for torch."""
    words = np.random.SeedSequence(key).generate_state(8)
    random.seed(words[:2].tobytes())
    np.random.seed(words[2:6])
    return int(words[6:].view(np.uint64)[0])
