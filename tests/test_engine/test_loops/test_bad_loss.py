"""Batches whose loss is not finite, in the loop: the run stops, or goes on as if they had not been."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from mmps_kd.datasets import ResumableSampler
from mmps_kd.engine import ResumableTrainLoop
from mmps_kd.errors import UserError
from mmps_kd.models.utils.invalid_loss import NonFiniteLossError


class Images(list):
    """Samples that are their own index."""

    metainfo = {}


class Counter(nn.Module):
    """Adds each batch to a buffer before it finds out that its loss is bad."""

    def __init__(self, bad):
        super().__init__()
        self.bad = bad
        self.register_buffer('seen', torch.zeros(()))

    def train_step(self, batch, optim_wrapper):
        self.seen += float(batch)
        if int(batch) in self.bad:
            raise NonFiniteLossError(f'loss_oim is nan on {int(batch)}.jpg')


@pytest.fixture
def make_loop():
    """A loop over 24 samples, one at a time, of which some are bad."""

    def make(bad, **options):
        data = Images(range(24))
        loader = DataLoader(data, sampler=ResumableSampler(data, shuffle=False, seed=5))
        runner = SimpleNamespace(visualizer=SimpleNamespace(), model=Counter(bad), optim_wrapper=None, lines=[])
        runner.logger = SimpleNamespace(warning=runner.lines.append)
        runner.calls = []
        runner.call_hook = lambda point, **kwargs: runner.calls.append((point, kwargs.get('batch_idx')))
        return ResumableTrainLoop(runner, loader, max_epochs=1, **options)

    return make


def test_it_stops_by_default(make_loop):
    loop = make_loop({2})
    with pytest.raises(NonFiniteLossError, match='loss_oim is nan on 2.jpg'):
        loop.run_epoch()
    assert ('after_train_iter', 1) in loop.runner.calls
    assert ('after_train_iter', 2) not in loop.runner.calls


def test_skipped_batches_leave_nothing_behind(make_loop):
    loop = make_loop({2, 5}, on_bad_loss='skip')
    loop.run_epoch()
    assert loop.runner.model.seen == sum(range(24)) - 2 - 5
    assert loop.iter == 24
    assert loop.runner.lines == [
        'iteration 3 skipped: loss_oim is nan on 2.jpg',
        'iteration 6 skipped: loss_oim is nan on 5.jpg',
    ]
    assert [index for point, index in loop.runner.calls if point == 'after_train_iter'] == list(range(24))


def test_ten_in_a_row_stop_the_run(make_loop):
    loop = make_loop(set(range(9)) | set(range(10, 20)), on_bad_loss='skip')
    with pytest.raises(UserError, match='^loss_oim is nan on 19.jpg, the 10th such batch in a row: .* lower learning'):
        loop.run_epoch()
    assert loop.runner.model.seen == 9 + 19
    assert len(loop.runner.lines) == 9 + 9


def test_an_unknown_way_is_refused(make_loop):
    with pytest.raises(UserError, match="on_bad_loss='ignore' does not exist: choose one of stop, skip"):
        make_loop(set(), on_bad_loss='ignore')
