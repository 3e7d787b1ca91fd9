"""What a resumed run needs to be the run that was stopped, and in what it differs from it."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner

from mmps_kd.compat import type_name
from mmps_kd.engine.checkpoint import newest_checkpoint
from mmps_kd.errors import UserError
from mmps_kd.models.losses import OIMLoss
from mmps_kd.randomness import TRAINING, seed_streams

from ..loops.resumable_train_loop import ResumableTrainLoop
from .unwrap import unwrapped_model

IMAGES, IDENTITIES, RANKS = 'training images', 'identities', 'number of processes'
BATCH_SIZE, BATCH_SAMPLER, SAMPLER = (f'train_dataloader.{key}' for key in ('batch_size', 'batch_sampler', 'sampler'))
COUNTERS = ('base_values', 'last_step', 'verbose', 'best', 'num_bad_epochs', 'cooldown_counter')
"""What a scheduler's state holds beside its hyperparameters."""


@HOOKS.register_module()
class ResumeHook(Hook):
    """Find the checkpoint to go on from, compare it with the config, keep the position in the epoch, seed iterations.

    Before each training iteration, all global streams are seeded by run seed, rank and iteration. So a resumed run
    draws what an uninterrupted one draws, and neither validation nor data loading changes what training draws.

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

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep settings and position."""
        checkpoint['meta']['settings'] = self.settings(runner)
        if isinstance(runner.train_loop, ResumableTrainLoop):
            checkpoint['position'] = runner.train_loop.position()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare with the config, before optimizer and schedulers are loaded, and take the position up.

        Raises:
            UserError: If the config has another optimizer or other schedulers, which the state does not fit.
        """
        file, meta = runner._load_from, checkpoint.get('meta', {})
        self._loaded_identities = describe_identities(meta.get('dataset_meta') or {})
        for name, oim in _oim_losses(runner):
            for buffer in ('lut', 'queue'):
                rows, own = checkpoint['state_dict'].get(f'{name}.{buffer}'), len(getattr(oim, buffer))
                if rows is not None and len(rows) != own:
                    message = f'{name}.{buffer} has {len(rows)} rows in {file} and {own} in the config'
                    runner.logger.warning(f'{message}: it starts afresh')
        if not runner._resume:
            return
        if 'ema_state_dict' in checkpoint and not any(isinstance(hook, EMAHook) for hook in runner.hooks):
            message = f'{file} was trained with EMAHook, which the config has not'
            runner.logger.warning(f'{message}: training goes on with the averaged weights')
        old, new = {IDENTITIES: self._loaded_identities, **meta.get('settings', {})}, self.settings(runner)
        _compare_optimizers(runner, checkpoint, old, new)
        _compare_schedulers(runner, checkpoint, old, new)
        seed = (runner.cfg.get('randomness') or {}).get('seed')
        if seed is not None and meta.get('seed') not in (None, seed):
            _warn_checkpoint_wins(runner, 'randomness.seed', meta['seed'], seed)
        differing = [key for key in old | new if meta.get('settings') and old.get(key) != new.get(key)]
        if old[IDENTITIES] not in (None, new[IDENTITIES]) and IDENTITIES not in differing:
            differing.append(IDENTITIES)
        for key in differing:
            runner.logger.warning(f'{key}: {old.get(key)} in {file}, {new.get(key)} now: the new value is used')
        if 'position' in checkpoint and isinstance(runner.train_loop, ResumableTrainLoop):
            _take_up(runner, checkpoint['position'], differing)

    def before_train(self, runner: Runner) -> None:
        """Empty OIM's table and queue where they are of other identities than the training set's."""
        loaded, own = self._loaded_identities, self.settings(runner)[IDENTITIES]
        if loaded in (None, own):
            return
        for name, oim in _oim_losses(runner):
            oim.reset()
            runner.logger.warning(
                f'{runner._load_from} was trained on the identities {loaded}, the training set has {own}: '
                f'the table and the queue of {name} start afresh'
            )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Seed the iteration's streams."""
        seed_streams(TRAINING, runner.seed, get_rank(), runner.iter)

    def settings(self, runner: Runner) -> dict[str, Any]:
        """What is compared when a run is resumed, by name: plain values; computed once."""
        if self._settings is None:
            cfg, dataset = runner.cfg, runner.train_dataloader.dataset
            found = {
                f'{part}.{key}': value
                for part in ('train_cfg', 'optim_wrapper')
                for key, value in (cfg.get(part) or {}).items()
                if key not in ('optimizer', 'paramwise_cfg')  # param groups say what they come to
            }
            loader = cfg.get('train_dataloader') or {}
            found |= {f'train_dataloader.{key}': loader.get(key) for key in ('batch_size', 'batch_sampler', 'sampler')}
            found['optimizer'] = type(getattr(runner.optim_wrapper, 'optimizer', None))
            found['param_scheduler'] = [type(scheduler) for scheduler in runner.param_schedulers or ()]
            found[RANKS] = get_world_size()
            found[IDENTITIES] = describe_identities(getattr(dataset, 'metainfo', {}))
            if hasattr(dataset, 'get_data_info'):
                names = [str(dataset.get_data_info(index).get('img_name')) for index in range(len(dataset))]
                found[IMAGES] = f'{len(names)} ({_digest(names)})'
            self._settings = _plain(found)
        return self._settings


def describe_identities(metainfo: dict) -> str | None:
    """Number, data set and digest of a training set's identities; None where ``metainfo`` has none."""
    if 'identities' not in metainfo:
        return None
    name, identities = metainfo.get('dataset_name'), list(metainfo['identities'])
    return f'{len(identities)} of {name} ({_digest([name, identities])})'


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:8]


def _plain(value: Any) -> Any:
    """A setting as a checkpoint keeps it: the same, whichever way a config is written in."""
    if isinstance(value, dict):
        return {str(key): type_name(part) if key == 'type' else _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value if value is None or isinstance(value, bool | int | float | str) else type_name(value)


def _oim_losses(runner: Runner) -> list[tuple[str, OIMLoss]]:
    return [(name, part) for name, part in unwrapped_model(runner).named_modules() if isinstance(part, OIMLoss)]


def _warn_checkpoint_wins(runner: Runner, key: str, old: Any, new: Any) -> None:
    file = runner._load_from
    runner.logger.warning(
        f'{key}: {old} in {file}, {new} in the config: the value of the checkpoint is used; to train on with {new}, '
        f"start a new run with load_from='{file}', without --resume"
    )


def _refuse(runner: Runner, what: str, old: Any, new: Any) -> None:
    file = runner._load_from
    raise UserError(
        f'{file} cannot be resumed: it was trained with {what} {old}, the config has {new}: resume with the same, or '
        f"start a new run with load_from='{file}', without --resume"
    )


def _compare_optimizers(runner: Runner, checkpoint: dict, old: dict, new: dict) -> None:
    """Refuse another optimizer, and warn of each hyperparameter that the checkpoint overrides."""
    if old.get('optimizer', new['optimizer']) != new['optimizer']:
        _refuse(runner, 'optimizer', old['optimizer'], new['optimizer'])
    groups = checkpoint.get('optimizer', {}).get('param_groups')
    if groups is None:  # saved without the optimizer
        return
    own = runner.optim_wrapper.param_groups
    sizes = [[len(group['params']) for group in each] for each in (groups, own)]
    if sizes[0] != sizes[1]:
        _refuse(runner, 'an optimizer of', *(f'{len(each)} groups of {sum(each)} parameters' for each in sizes))
    if {'betas', 'momentum'} & (own[0].keys() - groups[0].keys()):
        _refuse(runner, 'optimizer settings', *(sorted(each[0].keys() - {'params'}) for each in (groups, own)))
    told = set()
    for theirs, ours in zip(groups, own, strict=True):
        for key in ours.keys() & theirs.keys() - {'params', 'param_names'}:
            # A scheduler changes the value itself and keeps the first one.
            before, now = (group.get(f'initial_{key}', group[key]) for group in (theirs, ours))
            if before != now and not key.startswith('initial_') and (key, before, now) not in told:
                told.add((key, before, now))
                _warn_checkpoint_wins(runner, f'optim_wrapper.optimizer.{key}', before, now)


def _compare_schedulers(runner: Runner, checkpoint: dict, old: dict, new: dict) -> None:
    """Refuse schedulers of other types, and warn of each hyperparameter that the checkpoint overrides."""
    theirs = checkpoint.get('param_schedulers')
    if theirs is None:  # saved without them
        return
    ours = [scheduler.state_dict() for scheduler in runner.param_schedulers or ()]
    if [state.keys() for state in theirs] != [state.keys() for state in ours]:
        _refuse(runner, 'param_scheduler', old.get('param_scheduler', f'of {len(theirs)}'), new['param_scheduler'])
    if old.get('param_scheduler', new['param_scheduler']) != new['param_scheduler']:
        _refuse(runner, 'param_scheduler', old['param_scheduler'], new['param_scheduler'])
    for index, (before, now) in enumerate(zip(theirs, ours, strict=True)):
        for key in now:
            values = [sorted(v.elements()) if isinstance(v, Counter) else v for v in (before[key], now[key])]
            if not key.startswith('_') and key not in COUNTERS and values[0] != values[1]:
                _warn_checkpoint_wins(runner, f'param_scheduler[{index}].{key}', *values)


def _take_up(runner: Runner, position: dict, differing: list[str]) -> None:
    """Go on in the middle of the epoch, unless the samples before it are not those that were trained on."""
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
    runner.train_loop.go_on_at(position)
