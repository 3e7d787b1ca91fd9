"""Checkpoints that a crash cannot take along."""

from pathlib import Path

from mmdet.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmps_kd.engine.checkpoint import ATOMIC_BACKEND, save_checkpoint


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook`` with two differences.

    Files are written atomically, and the oldest checkpoint is removed after the newest is on the disk, where MMEngine
    removes it before.

    Args:
        backend_args: Where to; the default is local files, written atomically.
        **kwargs: As for ``CheckpointHook``.
    """

    def __init__(self, *args, backend_args: dict | None = None, **kwargs) -> None:
        super().__init__(*args, backend_args=backend_args or dict(backend=ATOMIC_BACKEND), **kwargs)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        path = Path(self.out_dir, self.filename_tmpl.format(step))
        self.last_ckpt = str(path)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        outdated = self._keep(runner, step)
        save_checkpoint(
            runner,
            path,
            meta,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
        )
        if outdated is not None and is_main_process():
            Path(self.out_dir, self.filename_tmpl.format(outdated)).unlink(missing_ok=True)

    def _keep(self, runner: Runner, step: int) -> int | None:
        """Note a step among those that are kept; returns the one that drops out."""
        if self.max_keep_ckpts <= 0 or step in self.keep_ckpt_ids:
            return None
        outdated = self.keep_ckpt_ids[0] if len(self.keep_ckpt_ids) == self.max_keep_ckpts else None
        self.keep_ckpt_ids.append(step)
        runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        return outdated
