"""The position in an epoch: kept, taken up, and by other numbers of ranks."""

from types import SimpleNamespace

import pytest
from torch.utils.data import DataLoader

from mmps_kd.datasets import ResumableSampler
from mmps_kd.engine import ResumableTrainLoop
from mmps_kd.errors import UserError


class Images(list):
    """Samples that are their own index."""

    metainfo = {}


@pytest.fixture
def make_loop(monkeypatch):
    """A loop over 12 samples on one of some ranks, which notes (batch index, samples) where others train."""

    def make(batch_size, rank=0, world=1, max_epochs=2):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: (rank, world))
        monkeypatch.setattr('mmps_kd.engine.loops.resumable_train_loop.get_world_size', lambda: world)
        data = Images(range(12))
        loader = DataLoader(data, batch_size=batch_size, sampler=ResumableSampler(data, shuffle=False, seed=5))
        runner = SimpleNamespace(
            visualizer=SimpleNamespace(), call_hook=lambda *_: None, model=SimpleNamespace(train=lambda: None)
        )
        loop = ResumableTrainLoop(runner, loader, max_epochs=max_epochs)
        loop.trained = []
        loop.run_iter = lambda index, batch: loop.trained.append((index, batch.tolist()))
        return loop

    return make


def test_an_epoch_goes_on_and_the_next_begins_at_its_beginning(make_loop):
    loop = make_loop(batch_size=5)
    loop.resume_from(dict(seed=5, samples=5))
    loop.run_epoch()
    assert loop.trained == [(1, [5, 6, 7, 8, 9]), (2, [10, 11])]
    loop.run_epoch()
    assert loop.trained[2:] == [(0, [0, 1, 2, 3, 4]), (1, [5, 6, 7, 8, 9]), (2, [10, 11])]
    assert loop.epoch == 2


def test_the_position_while_and_after_an_epoch_is_trained(make_loop):
    loop, seen = make_loop(batch_size=5), []
    loop.run_iter = lambda index, batch: seen.append(loop.position())
    loop.run_epoch()
    assert seen == [dict(seed=5, samples=samples) for samples in (5, 10, 15)]
    assert loop.position() == dict(seed=5, samples=0)


def test_stopped_after_the_last_batch_it_only_ends_the_epoch(make_loop):
    loop = make_loop(batch_size=5)
    loop.resume_from(dict(seed=5, samples=15))
    loop.run_epoch()
    assert (loop.trained, loop.epoch) == ([], 1)


@pytest.mark.parametrize(('batch_size', 'world'), [(1, 1), (3, 1), (1, 3), (2, 3), (3, 2)])
def test_other_ranks_and_batches_go_on_at_the_same_sample(make_loop, batch_size, world):
    trained = []
    for rank in range(world):
        loop = make_loop(batch_size, rank, world)
        loop.resume_from(dict(seed=5, samples=6))
        loop.run_epoch()
        trained += [sample for _, batch in loop.trained for sample in batch]
    assert sorted(trained) == [6, 7, 8, 9, 10, 11]


def test_the_order_is_that_of_the_checkpoint(make_loop):
    loop = make_loop(batch_size=5)
    loop.resume_from(dict(seed=8, samples=0))
    assert loop.dataloader.sampler.seed == 8


def test_a_sampler_that_cannot_start_in_the_middle():
    runner = SimpleNamespace(visualizer=SimpleNamespace())
    with pytest.raises(UserError, match="sampler RandomSampler: set train_dataloader.sampler.type='ResumableSampler'"):
        ResumableTrainLoop(runner, DataLoader(Images(range(3)), shuffle=True), max_epochs=1)
