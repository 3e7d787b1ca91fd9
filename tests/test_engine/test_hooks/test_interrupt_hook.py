"""How signals are caught and let go."""

import os
import signal
from types import SimpleNamespace

import pytest
from torch.utils.data import DataLoader

from mmps_kd.engine import InterruptHook

HOOK = 'mmps_kd.engine.hooks.interrupt_hook'


@pytest.fixture
def caught():
    """What reaches the program while the hook does not listen."""
    numbers = []
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, frame: numbers.append(number)) for number in signals}
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def runner():
    loader = DataLoader(range(4), num_workers=1, worker_init_fn=lambda worker: None)
    return SimpleNamespace(train_dataloader=loader, val_loop=None)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_acts_as_usual(caught, runner, number):
    hook = InterruptHook()
    hook.before_train(runner)
    os.kill(os.getpid(), number)
    assert (hook.caught, caught) == (number, [])
    os.kill(os.getpid(), number)
    assert caught == [number]


def test_after_training_it_does_not_listen(caught, runner):
    hook = InterruptHook()
    hook.before_train(runner)
    hook.after_train(runner)
    os.kill(os.getpid(), signal.SIGINT)
    assert (hook.caught, caught) == (0, [signal.SIGINT])


class Groups:
    """Items are the process group and the calls of the loader's own initialisation."""

    started = ()

    def __len__(self):
        return 2

    def __getitem__(self, idx):
        return os.getpgrp(), os.getpid(), self.started


def test_loading_processes_are_in_groups_of_their_own(caught, runner):
    data = Groups()
    runner.train_dataloader = DataLoader(
        data, num_workers=1, batch_size=None, worker_init_fn=lambda worker: setattr(data, 'started', (worker,))
    )
    InterruptHook().before_train(runner)
    for group, process, started in runner.train_dataloader:
        assert group == process != os.getpgrp()
        assert list(started) == [0]


def test_accumulated_gradients_are_used_before_it_stops(caught, runner):
    """A checkpoint holds no gradients."""
    runner.optim_wrapper = SimpleNamespace(should_update=lambda: False)
    hook = InterruptHook()
    hook.caught = signal.SIGTERM
    assert hook.after_train_iter(runner, 0) is None


@pytest.mark.parametrize(('world', 'expected'), [(2, [4, 6, 9, 13]), (1, [])])
def test_ranks_ask_each_other_at_intervals_and_at_the_end_of_an_epoch(monkeypatch, world, expected):
    asked = []
    monkeypatch.setattr(f'{HOOK}.get_world_size', lambda: world)
    monkeypatch.setattr(f'{HOOK}.all_reduce', lambda *_: asked.append(runner.iter))
    runner = SimpleNamespace(train_dataloader=range(7))
    hook = InterruptHook(interval=5)
    for runner.iter in range(14):
        hook.after_train_iter(runner, runner.iter % 7)
    assert asked == expected


def test_a_signal_of_another_rank_waits_for_the_update(monkeypatch):
    """The ranks agree in the middle of an accumulation; it is ended first."""
    monkeypatch.setattr(f'{HOOK}.get_world_size', lambda: 2)
    monkeypatch.setattr(f'{HOOK}.all_reduce', lambda mine, _: mine.fill_(signal.SIGTERM))
    saved = []
    monkeypatch.setattr(f'{HOOK}.save_checkpoint', lambda *_, **__: saved.append(runner.iter))
    runner = SimpleNamespace(train_dataloader=range(100), work_dir='work', epoch=0)
    runner.logger = SimpleNamespace(warning=lambda _: None)
    runner.optim_wrapper = SimpleNamespace(should_update=lambda: (runner.iter + 1) % 3 == 0)
    hook = InterruptHook(interval=5)
    with pytest.raises(SystemExit, match='143'):
        for runner.iter in range(100):
            hook.after_train_iter(runner, runner.iter)
    assert saved == [5]
