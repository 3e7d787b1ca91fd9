"""Random streams that follow from what is done, not from what was drawn before.

A stream that is seeded anew for each piece of work has no state that could be lost: a run that was stopped draws what
it would have drawn, however it was stopped.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

TRAINING, LOADING = 1, 2
"""What random numbers are for: the first number of a key, so that no two uses share a stream."""


def seed_streams(*key: int) -> None:
    """Seed the global streams of Python, NumPy and torch, on the CPU and on every GPU.

    Args:
        key: What is being done: :data:`TRAINING`, run seed, rank, iteration. Each in 0..2**32 - 1; different keys of
            one length give streams that have nothing to do with each other.
    """
    torch.manual_seed(_seed_on_cpu(key))


@contextmanager
def streams_of(*key: int) -> Iterator[None]:
    """Seed the CPU's global streams by ``key`` for a while, and then let them go on where they were.

    Args:
        key: As for :func:`seed_streams`: :data:`LOADING`, run seed, epoch, sample.
    """
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    # torch.manual_seed would reach for the GPUs, which data loading has no business with.
    torch.default_generator.manual_seed(_seed_on_cpu(key))
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def _seed_on_cpu(key: tuple[int, ...]) -> int:
    """Seed Python and NumPy; returns the seed for torch."""
    words = np.random.SeedSequence(key).generate_state(8)
    random.seed(words[:2].tobytes())
    np.random.seed(words[2:6])
    return int(words[6:].view(np.uint64)[0])
