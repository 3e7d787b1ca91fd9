"""State that a resumed run needs beside MMEngine's own, and checks of its settings."""

from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner

from mmps_kd.models.losses import OIMLoss
from mmps_kd.randomness import TRAINING, seed_rng

from ..loops import ResumableTrainLoop
from ..resume import (
    BATCH_SAMPLER,
    BATCH_SIZE,
    IDENTITIES,
    IMAGES,
    RANKS,
    SAMPLER,
    compare_optimizers,
    compare_schedulers,
    describe_identities,
    describe_settings,
    warn_checkpoint_wins,
)
from ..unwrap import unwrapped_model


@HOOKS.register_module()
class ResumeHook(Hook):
    """Compare a resumed checkpoint with the config, keep the position in the epoch, and seed each iteration.

    Before each training iteration, all global random generators are seeded by run seed, rank and iteration. So a
    resumed run draws what an uninterrupted one draws, and neither validation nor data loading changes that.

    Each checkpoint holds the ``settings`` of its run. When a run is resumed, every setting that differs from the
    config is a warning in the log, with both values and the one that is used: the checkpoint's for the hyperparameters
    of optimizer and schedulers and for the random seed, the config's for all others. Of a checkpoint without
    ``settings``, optimizer, schedulers, seed and identities are compared. Where the order of the samples is another
    one, the epoch begins again. Where the identities are others, after ``load_from`` too, OIM's table and queue start
    afresh.
    """

    priority = 'VERY_HIGH'
    _settings: dict[str, Any] | None = None
    _loaded_identities: str | None = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep settings and position."""
        checkpoint['meta']['settings'] = self.settings(runner)
        if isinstance(runner.train_loop, ResumableTrainLoop):
            checkpoint['position'] = runner.train_loop.position()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare with the config, before optimizer and schedulers are loaded, and restore the position.

        Raises:
            UserError: If the config has another optimizer or other schedulers, which the state does not fit.
        """
        file, meta = runner.cfg.get('load_from'), checkpoint.get('meta', {})
        self._loaded_identities = describe_identities(meta.get('dataset_meta') or {})
        for name, oim in _oim_losses(runner):
            for buffer in ('lut', 'queue'):
                rows, own = checkpoint['state_dict'].get(f'{name}.{buffer}'), len(getattr(oim, buffer))
                if rows is not None and len(rows) != own:
                    message = f'{name}.{buffer} has {len(rows)} rows in {file} and {own} in the config'
                    runner.logger.warning(f'{message}: it starts afresh')
        if not runner.cfg.get('resume'):
            return
        if 'ema_state_dict' in checkpoint and not any(isinstance(hook, EMAHook) for hook in runner.hooks):
            message = f'{file} was trained with EMAHook, which the config has not'
            runner.logger.warning(f'{message}: training goes on with the averaged weights')
        old, new = {IDENTITIES: self._loaded_identities, **meta.get('settings', {})}, self.settings(runner)
        compare_optimizers(runner, checkpoint, old, new)
        compare_schedulers(runner, checkpoint, old, new)
        seed = (runner.cfg.get('randomness') or {}).get('seed')
        if seed is not None and meta.get('seed') not in (None, seed):
            warn_checkpoint_wins(runner, 'randomness.seed', meta['seed'], seed)
        differing = [key for key in old | new if meta.get('settings') and old.get(key) != new.get(key)]
        if old[IDENTITIES] not in (None, new[IDENTITIES]) and IDENTITIES not in differing:
            differing.append(IDENTITIES)
        for key in differing:
            runner.logger.warning(f'{key}: {old.get(key)} in {file}, {new.get(key)} now: the new value is used')
        if 'position' in checkpoint and isinstance(runner.train_loop, ResumableTrainLoop):
            _restore_position(runner, checkpoint['position'], differing)

    def before_train(self, runner: Runner) -> None:
        """Empty OIM's table and queue where they are of other identities than the training set's."""
        file, loaded, own = runner.cfg.get('load_from'), self._loaded_identities, self.settings(runner)[IDENTITIES]
        if loaded in (None, own):
            return
        for name, oim in _oim_losses(runner):
            oim.reset()
            runner.logger.warning(
                f'{file} was trained on the identities {loaded}, the training set has {own}: '
                f'the table and the queue of {name} start afresh'
            )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Seed the iteration's random numbers."""
        seed_rng(TRAINING, runner.seed, get_rank(), runner.iter)

    def settings(self, runner: Runner) -> dict[str, Any]:
        """See :func:`~mmps_kd.engine.resume.describe_settings`; computed once."""
        if self._settings is None:
            self._settings = describe_settings(runner)
        return self._settings


def _oim_losses(runner: Runner) -> list[tuple[str, OIMLoss]]:
    return [(name, part) for name, part in unwrapped_model(runner).named_modules() if isinstance(part, OIMLoss)]


def _restore_position(runner: Runner, position: dict, differing: list[str]) -> None:
    """Continue in the middle of the epoch, unless the samples before it are not those that were trained on."""
    order = {IMAGES, IDENTITIES, SAMPLER, BATCH_SAMPLER}
    if runner.train_loop.reorders:
        order |= {BATCH_SIZE, RANKS}
    changed = [key for key in differing if key in order]
    if changed and position['samples']:
        runner.logger.warning(
            f'the epoch begins again: {", ".join(changed)} changed, the {position["samples"]} samples that are done '
            'are no longer the first of the epoch'
        )
        position = {**position, 'samples': 0}
    elif position['samples'] and {BATCH_SIZE, RANKS} & {*differing}:
        runner.logger.warning(f'the epoch goes on after the {position["samples"]} samples that are done')
    runner.train_loop.resume_from(position)
