"""Evaluate a person-search checkpoint."""

import argparse
import os
from pathlib import Path

from mmdet.registry import METRICS
from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from mmps_kd.apis import load_config
from mmps_kd.compat import read_checkpoints_as_data
from mmps_kd.engine.launch import prepare_process_group, set_up_run
from mmps_kd.errors import UserError, run_tool
from mmps_kd.evaluation.metrics import BaseSearchMetric


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
    cfg = load_config(args.config, args.cfg_options)
    set_up_run(cfg, args.work_dir, args.launcher)
    if not Path(args.checkpoint).is_file():
        raise UserError(f'there is no checkpoint {args.checkpoint}')
    if not cfg.get('test_dataloader'):
        raise UserError(f'{args.config} has no test_dataloader: there is nothing to test on')
    cfg.load_from = args.checkpoint
    if args.show or args.show_dir:
        if 'visualization' not in (cfg.get('default_hooks') or {}):
            raise UserError(
                "--show and --show-dir need default_hooks.visualization=dict(type='PersonSearchVisualizationHook'): "
                'add it to the config'
            )
        from mmdet.engine.hooks.utils import trigger_visualization_hook

        cfg = trigger_visualization_hook(cfg, args)
    if args.out is not None:
        results_evaluator(cfg).out_file = args.out
    return cfg


def results_evaluator(cfg: Config) -> dict:
    """Config of the first evaluator of a search: the one that can write what was found.

    Raises:
        UserError: If there is none.
    """
    evaluators = cfg.test_evaluator if isinstance(cfg.test_evaluator, list | tuple) else [cfg.test_evaluator]
    for evaluator in filter(None, evaluators):
        metric = evaluator.type if isinstance(evaluator.type, type) else METRICS.get(evaluator.type)
        if metric is not None and issubclass(metric, BaseSearchMetric):
            return evaluator
    raise UserError('--out needs a test_evaluator that evaluates a search, such as SearchMetric: leave --out away')


def main() -> None:
    """Test."""
    args = parse_args()
    read_checkpoints_as_data()
    cfg = build_config(args)
    prepare_process_group(cfg)
    Runner.from_cfg(cfg).test()


if __name__ == '__main__':
    run_tool(main)
