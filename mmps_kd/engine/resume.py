"""Resuming a run: which checkpoint it continues from, and in which settings the config differs from it."""

import hashlib
import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmps_kd.compat import type_name
from mmps_kd.errors import UserError

from .checkpoint import checkpoints_by_age, newest_checkpoint

IMAGES, IDENTITIES, RANKS = 'training images', 'identities', 'number of processes'
BATCH_SIZE, BATCH_SAMPLER, SAMPLER = (f'train_dataloader.{key}' for key in ('batch_size', 'batch_sampler', 'sampler'))
COUNTERS = ('base_values', 'last_step', 'verbose', 'best', 'num_bad_epochs', 'cooldown_counter')
"""What a scheduler's state holds beside its hyperparameters."""


def set_resume(cfg: Config, checkpoint: str | None) -> None:
    """Set ``load_from`` and ``resume`` of a config to the checkpoint that a training continues from.

    Args:
        cfg: With ``work_dir``; ``resume`` without ``load_from`` means the newest checkpoint.
        checkpoint: A file; ``'auto'``: the newest checkpoint of the work dir, and at the first start what the config
            says; None: what the config says.

    Raises:
        UserError: If there is no such file, or all checkpoints of the work dir are damaged.
    """
    work_dir = Path(cfg.work_dir)
    if checkpoint == 'auto':
        # Without checkpoints this may be the first start of a run that begins with the weights in load_from.
        if cfg.get('load_from') is None or checkpoints_by_age(work_dir):
            cfg.resume, cfg.load_from = True, None
    elif checkpoint is not None:
        if not Path(checkpoint).is_file():
            raise UserError(f'--resume: there is no checkpoint {checkpoint}')
        cfg.resume, cfg.load_from = True, checkpoint
    if not cfg.get('resume') or cfg.get('load_from') is not None:
        return
    newest, damaged = newest_checkpoint(work_dir)
    for path in damaged:
        print_log(f'{path} is damaged, going on from {newest} instead', 'current', logging.WARNING)
    if newest is None:
        message = f'no checkpoint in {work_dir} to resume: training starts from the beginning'
        print_log(message, 'current', logging.WARNING)
    cfg.resume, cfg.load_from = newest is not None, newest and str(newest)


def describe_settings(runner: Runner) -> dict[str, Any]:
    """The settings that are compared when a run is resumed, by name, as plain values."""
    cfg, dataset = runner.cfg, runner.train_dataloader.dataset
    found = {
        f'{part}.{key}': value
        for part in ('train_cfg', 'optim_wrapper')
        for key, value in (cfg.get(part) or {}).items()
        if key not in ('optimizer', 'paramwise_cfg')  # compared by the param groups that result from them
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
    return _plain(found)


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


def warn_checkpoint_wins(runner: Runner, key: str, old: Any, new: Any) -> None:
    """Log a setting of which the value of the checkpoint is used."""
    file = runner.cfg.get('load_from')
    runner.logger.warning(
        f'{key}: {old} in {file}, {new} in the config: the value of the checkpoint is used; to train on with {new}, '
        f"start a new run with load_from='{file}', without --resume"
    )


def _refuse(runner: Runner, what: str, old: Any, new: Any) -> None:
    file = runner.cfg.get('load_from')
    raise UserError(
        f'{file} cannot be resumed: it was trained with {what} {old}, the config has {new}: resume with the same, or '
        f"start a new run with load_from='{file}', without --resume"
    )


def compare_optimizers(runner: Runner, checkpoint: dict, old: dict, new: dict) -> None:
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
                warn_checkpoint_wins(runner, f'optim_wrapper.optimizer.{key}', before, now)


def compare_schedulers(runner: Runner, checkpoint: dict, old: dict, new: dict) -> None:
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
                warn_checkpoint_wins(runner, f'param_scheduler[{index}].{key}', *values)
