"""Checkpoints that a crash cannot take along."""

from pathlib import Path

from mmdet.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.runner import Runner

from mmps_kd.engine.checkpoint import ATOMIC_BACKEND, save_checkpoint
from mmps_kd.errors import UserError


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook`` with three differences.

    Files are written atomically. The oldest checkpoint is removed after the newest is on the disk, where MMEngine
    removes it before. The figure of ``save_best``, and that of an ``EarlyStoppingHook``, is looked for before training
    among those that the evaluators will give; higher ``det_ap`` and ``det_recall`` are better.

    Args:
        backend_args: Where to; the default is local files, written atomically.
        **kwargs: As for ``CheckpointHook``.
    """

    _default_greater_keys = [*CheckpointHook._default_greater_keys, 'det_ap', 'det_recall']

    no_rule: str | None = None
    """What MMEngine says where it does not know whether more of a figure is better."""

    def __init__(self, *args, backend_args: dict | None = None, **kwargs) -> None:
        super().__init__(*args, backend_args=backend_args or dict(backend=ATOMIC_BACKEND), **kwargs)

    def _init_rule(self, rules: list[str | None], key_indicators: list[str]) -> None:
        """As MMEngine's; a figure of which it does not know whether more is better is left to :meth:`before_train`."""
        try:
            super()._init_rule(rules, key_indicators)
        except ValueError as error:
            self.no_rule = str(error)
            super()._init_rule(['greater'], key_indicators)

    def before_train(self, runner: Runner) -> None:
        """Look for the figures that are to be watched.

        Raises:
            UserError: If there is no validation, or no evaluator gives such a figure.
        """
        watched = {f'default_hooks.checkpoint.save_best={key!r}': key for key in self.save_best or ()}
        for hook in runner.hooks:
            if isinstance(hook, EarlyStoppingHook):
                watched[f'monitor={hook.monitor!r} of EarlyStoppingHook'] = hook.monitor
        if watched:
            require_figures(runner, watched, self.no_rule)
        super().before_train(runner)

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


def require_figures(runner: Runner, watched: dict[str, str], no_rule: str | None = None) -> None:
    """Compare the figures that hooks watch with those that the validation's evaluators give.

    Evaluators without ``figure_names`` may give any figure.

    Args:
        runner: The runner, in training.
        watched: Names of figures, by the setting that asks for them.
        no_rule: Why a figure cannot be watched if it is not one of this package's.

    Raises:
        UserError: If there is no validation, or a figure is not among them.
    """
    if runner.val_loop is None:
        raise UserError(f'{next(iter(watched))} needs validation: configure val_dataloader, or leave it out')
    metrics = runner.val_evaluator.metrics
    given = [f'{metric.prefix}/{name}' for metric in metrics for name in getattr(metric, 'figure_names', ())]
    all_known = all(hasattr(metric, 'figure_names') for metric in metrics)
    for setting, figure in watched.items():
        if figure != 'auto' and figure not in given and (all_known or no_rule):
            hint = '' if all_known else f'; of another evaluator: {no_rule}'
            figures = ', '.join(given)
            raise UserError(f'{setting} is not among the figures of val_evaluator: choose one of {figures}{hint}')
