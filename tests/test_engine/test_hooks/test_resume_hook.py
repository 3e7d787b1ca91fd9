"""What the iterations of a run draw."""

import random
from types import SimpleNamespace

import numpy as np
import torch

from mmps_kd.engine import ResumeHook


def test_each_rank_and_iteration_has_random_numbers_of_its_own(monkeypatch):
    runner = SimpleNamespace(seed=0)

    def drawn(rank, iteration):
        monkeypatch.setattr('mmps_kd.engine.hooks.resume_hook.get_rank', lambda: rank)
        runner.iter = iteration
        ResumeHook().before_train_iter(runner, 0)
        return random.random(), np.random.random(), torch.rand(()).item()

    first = {key: drawn(*key) for key in ((0, 0), (0, 1), (1, 0), (1, 1))}
    assert all(len(set(stream)) == 4 for stream in zip(*first.values(), strict=True))
    assert first == {key: drawn(*key) for key in first}
