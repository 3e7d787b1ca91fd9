"""What train and test tools do before they build a runner."""

import argparse
import atexit
import gc
from pathlib import Path

import torch
from mmengine.config import Config

from mmps_kd.datasets import check_wrappers
from mmps_kd.errors import UserError


def load_config(args: argparse.Namespace) -> Config:
    """Read the config named on the command line.

    Args:
        args: With ``config``, ``cfg_options``, ``work_dir`` and ``launcher``.

    Returns:
        The config, overrides merged, with mmdet's scope if it names none, and with a work dir: the command line's,
        else the config's own, else ``work_dirs/<config name>``.

    Raises:
        UserError: If the file is missing, or a loader has several data sets in a way that mixes up people.
    """
    if not Path(args.config).is_file():
        raise UserError(f'there is no config file {args.config}')
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    cfg.default_scope = cfg.get('default_scope') or 'mmdet'
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs', Path(args.config).stem))
    _check_data_sets(cfg)
    return cfg


def _check_data_sets(cfg: Config) -> None:
    """Check before anything is built: MMEngine's ``ConcatDataset`` fails on data sets with different identities."""
    train, *tests = ((cfg.get(f'{name}_dataloader') or {}).get('dataset') for name in ('train', 'val', 'test'))
    check_wrappers(train)
    for dataset in tests:
        if dataset is not None and ('datasets' in dataset or 'dataset' in dataset):
            raise UserError(
                f'{dataset["type"]} around test sets: together they have no protocol; test each by itself, see '
                'docs/evaluation.md'
            )


def prepare_process_group(cfg: Config) -> None:
    """Set up gloo where torchrun started the process on a machine without a GPU.

    MMEngine's launcher asks for a CUDA device whatever the backend, and its model wrapper names one; a group that
    stands and a wrapper that is configured are left alone by it.

    Args:
        cfg: With ``launcher``; gets a ``model_wrapper_cfg``.
    """
    if cfg.launcher == 'pytorch' and not torch.cuda.is_available():
        torch.distributed.init_process_group('gloo')
        atexit.register(end_process_group)
        cfg.model_wrapper_cfg = dict(device_ids=None, broadcast_buffers=False)


def end_process_group() -> None:
    """Take the group down, and before it the model that holds it.

    A thread of gloo that lets go of a tensor while Python ends aborts the process, though its work is done.
    """
    gc.collect()
    torch.distributed.destroy_process_group()
