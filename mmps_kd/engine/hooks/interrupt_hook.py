"""Stopping a run so that it can go on."""

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from mmdet.registry import HOOKS
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmps_kd.engine.checkpoint import INTERRUPTED, save_checkpoint

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@HOOKS.register_module()
class InterruptHook(Hook):
    """On Ctrl-C (SIGINT) or SIGTERM, finish the iteration, save, say how to go on, and exit with 128 + the signal.

    All ranks stop after the same iteration, whichever got the signal. With gradient accumulation, that is the one that
    ends with an update. A second signal stops the process at once, as usual. In validation there is nothing to save:
    the run stops there, and continues from its last checkpoint.

    Args:
        interval: Iterations from one time that ranks ask each other for signals to the next, which makes the CPU wait
            for the GPU; they also ask at the end of an epoch. A single process looks after each iteration. As torchrun
            kills its ranks 30 seconds after a signal, ``interval`` iterations must take less.
    """

    priority = 'LOWEST'  # all other hooks have finished the iteration

    def __init__(self, interval: int = 5) -> None:
        self.interval = interval
        self.caught = 0
        """The signal that came to this rank; 0 for none."""
        self.agreed = 0
        """The signal that all ranks know of; 0 for none."""

    def before_train(self, runner: Runner) -> None:
        """Listen."""
        self.before = {number: signal.signal(number, self._catch) for number in SIGNALS}
        _shield_workers(runner.train_dataloader)
        if runner.val_loop is not None:
            _shield_workers(runner.val_dataloader)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Save and stop, if a signal came to any rank."""
        if get_world_size() == 1:
            self.agreed = self.caught
        elif self.every_n_train_iters(runner, self.interval) or self.end_of_epoch(runner.train_dataloader, batch_idx):
            caught = torch.tensor(self.caught)
            all_reduce(caught, 'max')
            self.agreed = int(caught)
        if self.agreed and runner.optim_wrapper.should_update():
            path = Path(runner.work_dir, INTERRUPTED)
            meta = dict(epoch=runner.epoch, iter=runner.iter + 1)
            save_checkpoint(runner, path, meta, by_epoch=False)
            self._stop(runner, self.agreed, f'saved {path} after iteration {runner.iter + 1}')

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: list | None = None
    ) -> None:
        """Stop, if a signal came to this rank."""
        if self.caught:
            self._stop(runner, self.caught, 'stopped in validation')

    def after_train(self, runner: Runner) -> None:
        """Listen no more."""
        self._listen_no_more()

    def _catch(self, number: int, frame: object) -> None:
        self.caught = number
        self._listen_no_more()

    def _listen_no_more(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _stop(self, runner: Runner, number: int, what: str) -> None:
        name = signal.Signals(number).name
        runner.logger.warning(f'{name}: {what}; to go on, start the same command with --resume')
        raise SystemExit(128 + number)


def _shield_workers(loader: DataLoader) -> None:
    """Keep the processes that load data out of the group that Ctrl-C, torchrun and Slurm signal as a whole.

    They are needed until the iteration is finished.
    """
    loader.worker_init_fn = partial(_start_apart, loader.worker_init_fn)


def _start_apart(start: Callable[[int], None], worker: int) -> None:
    os.setpgrp()
    start(worker)
