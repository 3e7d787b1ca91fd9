"""Train a person-search model from a config."""

import argparse
import os

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS

from mmps_kd.apis import load_config
from mmps_kd.compat import read_checkpoints_as_data
from mmps_kd.engine.checkpoint import require_writable
from mmps_kd.engine.launch import prepare_process_group, set_up_run
from mmps_kd.engine.resume import set_resume
from mmps_kd.errors import UserError, run_tool


def parse_args() -> argparse.Namespace:
    """Arguments of mmdet's train.py."""
    parser = argparse.ArgumentParser(description='Train a person-search model')
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints; default: work_dirs/<config name>')
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision; bfloat16 on a CPU')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate with GPUs x batch size / base_batch_size'
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from this checkpoint; without a value, from the latest one in the work dir',
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings: key.sub=value ...')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # torch.distributed.launch passes --local-rank, torchrun sets LOCAL_RANK.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def build_config(args: argparse.Namespace) -> Config:
    """The config file with the command line's overrides."""
    cfg = load_config(args.config, args.cfg_options)
    set_up_run(cfg, args.work_dir, args.launcher)
    if args.amp:
        if torch.cuda.is_available():
            cfg.optim_wrapper.update(type='AmpOptimWrapper', loss_scale='dynamic')
        else:
            cfg.optim_wrapper.type = 'BFloat16OptimWrapper'
            cfg.optim_wrapper.pop('dtype', None)
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise UserError(f'{args.config} has no auto_scale_lr.base_batch_size: set it, or leave out --auto-scale-lr')
        cfg.auto_scale_lr.enable = True
    set_resume(cfg, args.resume)
    return cfg


def main() -> None:
    """Train."""
    args = parse_args()
    read_checkpoints_as_data()
    cfg = build_config(args)
    require_writable(cfg.work_dir)
    prepare_process_group(cfg)
    RUNNERS.build(cfg).train()


if __name__ == '__main__':
    run_tool(main)
