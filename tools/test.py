"""Evaluate a person-search checkpoint."""

import argparse
import os
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from mmps_kd.engine.launch import load_config, prepare_process_group
from mmps_kd.errors import UserError, run_tool


def parse_args() -> argparse.Namespace:
    """Arguments of mmdet's test.py."""
    parser = argparse.ArgumentParser(description='Test a person-search model')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--work-dir', help='folder for logs and figures; default: work_dirs/<config name>')
    parser.add_argument('--out', help='write detections and embeddings to this .npz, for tools/eval_results.py')
    parser.add_argument('--show', action='store_true', help='show the detections of each image')
    parser.add_argument('--show-dir', help='draw detections and rankings into <work dir>/<timestamp>/SHOW_DIR')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds that --show stays on an image')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings: key.sub=value ...')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def build_config(args: argparse.Namespace) -> Config:
    """The config file with the command line's overrides."""
    cfg = load_config(args)
    if not Path(args.checkpoint).is_file():
        raise UserError(f'there is no checkpoint {args.checkpoint}')
    cfg.load_from = args.checkpoint
    if args.show or args.show_dir:
        from mmdet.engine.hooks.utils import trigger_visualization_hook

        cfg = trigger_visualization_hook(cfg, args)
    if args.out is not None:
        cfg.test_evaluator.out_file = args.out
    return cfg


def main() -> None:
    """Test."""
    args = parse_args()
    cfg = build_config(args)
    prepare_process_group(cfg)
    Runner.from_cfg(cfg).test()


if __name__ == '__main__':
    run_tool(main)
