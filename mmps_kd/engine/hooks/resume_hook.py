"""What a resumed run needs to be the run that was stopped."""

from pathlib import Path

from mmdet.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmps_kd.engine.checkpoint import newest_checkpoint
from mmps_kd.randomness import TRAINING, seed_streams

from ..loops.resumable_train_loop import ResumableTrainLoop


@HOOKS.register_module()
class ResumeHook(Hook):
    """Find the checkpoint to go on from, keep the position in the epoch, and give each iteration its random streams.

    Before each training iteration, all global streams are seeded by run seed, rank and iteration. So a resumed run
    draws what an uninterrupted one draws, and neither validation nor data loading changes what training draws.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner: Runner) -> None:
        """Replace 'the latest' by a checkpoint that can be read.

        Raises:
            UserError: If none of those in the work dir can.
        """
        if not runner._resume or runner._load_from is not None:
            return
        newest, damaged = newest_checkpoint(Path(runner.work_dir))
        for path in damaged:
            runner.logger.warning(f'{path} is damaged, going on from {newest} instead')
        if newest is None:
            runner.logger.warning(f'no checkpoint in {runner.work_dir} to resume: training starts from the beginning')
        runner._resume, runner._load_from = newest is not None, newest and str(newest)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Seed the iteration's streams."""
        seed_streams(TRAINING, runner.seed, get_rank(), runner.iter)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the position."""
        if isinstance(runner.train_loop, ResumableTrainLoop):
            checkpoint['position'] = runner.train_loop.position()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take the position up."""
        if runner._resume and 'position' in checkpoint and isinstance(runner.train_loop, ResumableTrainLoop):
            runner.train_loop.go_on_at(checkpoint['position'])
