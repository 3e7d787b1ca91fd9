"""The whole job on a small synthetic data set: write it, train Detect+OIM, evaluate, draw rankings."""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from terminaltables import AsciiTable

from mmps_kd.datasets.synthetic import write_dataset
from mmps_kd.errors import UserError, run_tool

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = {
    'search/mAP': 'search mAP',
    'search/top1': 'top-1',
    'search/top5': 'top-5',
    'search/top10': 'top-10',
    'search/det_ap': 'detection AP',
    'search/det_recall': 'recall',
}


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--config', default=ROOT / 'configs/demo/oim_r18-narrow_mini.py', type=Path)
    parser.add_argument('--work-dir', default=ROOT / 'work_dirs/demo', type=Path, help='checkpoints, logs, pictures')
    parser.add_argument('--size', default='mini', choices=['tiny', 'mini'], help='size of the data set')
    parser.add_argument('--jobs', default=2, type=int, help='processes that draw the data set')
    parser.add_argument('--seed', default=0, type=int)
    parser.add_argument('--cfg-options', nargs='+', default=[], help='handed on to tools/train.py and tools/test.py')
    return parser.parse_args()


def main() -> None:
    """Run every step and print where things are."""
    args = parse_args()
    start = time.time()
    data_root = ROOT / 'data/synthetic' / f'cuhk-sysu-{args.size}'
    say(f'1/4  data set: {data_root}')
    write_dataset(data_root, 'cuhk-sysu', args.size, seed=args.seed, jobs=args.jobs)
    options = data_options(data_root) + [f'randomness.seed={args.seed}', *args.cfg_options]

    say('2/4  the untrained network, all its boxes kept')
    untrained = args.work_dir / 'untrained.pth'
    save_untrained(args.config, untrained, args.seed)
    keep_all = ['model.test_cfg.rcnn.score_thr=0.0', 'test_evaluator.score_thr=0.0']
    before = evaluate(args.config, untrained, args.work_dir / 'test_untrained', options + keep_all)

    say(f'3/4  training: {args.config}')
    train_dir = args.work_dir / 'train'
    call('tools/train.py', args.config, '--work-dir', train_dir, '--cfg-options', *options)
    checkpoint = Path((train_dir / 'last_checkpoint').read_text())

    say(f'4/4  evaluation of {checkpoint}')
    after = evaluate(args.config, checkpoint, args.work_dir / 'test', options, '--show-dir', 'pictures')
    rankings = sorted(args.work_dir.glob('test/*/pictures/rankings'))[-1]

    rows = [['%', *COLUMNS.values()]]
    for name, figures in (('untrained', before), ('trained', after)):
        rows.append([name, *(f'{100 * figures[key]:.1f}' for key in COLUMNS)])
    print(AsciiTable(rows, title=f' synthetic data ({args.size}), gallery of 100, seed {args.seed} ').table)
    print(f'checkpoint  {checkpoint}')
    print(f'logs        {train_dir}')
    print(f'rankings    {rankings}')
    print(f'time        {(time.time() - start) / 60:.1f} min')


def say(text: str) -> None:
    """A heading between the steps' own output."""
    print(f'\n=== {text}', flush=True)


def data_options(data_root: Path) -> list[str]:
    """Overrides that point a config to a data set."""
    return [f'{loader}_dataloader.dataset.data_root={data_root}/' for loader in ('train', 'val', 'test')]


def save_untrained(config: Path, path: Path, seed: int) -> None:
    """Write a checkpoint of the model as it is before training."""
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    set_random_seed(seed)
    model = MODELS.build(cfg.model)
    model.init_weights()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=model.state_dict()), path)


def evaluate(config: Path, checkpoint: Path, work_dir: Path, options: list[str], *arguments: str) -> dict[str, float]:
    """Run tools/test.py and read the figures that it logged."""
    call('tools/test.py', config, checkpoint, '--work-dir', work_dir, *arguments, '--cfg-options', *options)
    newest = sorted(work_dir.glob('*/*.json'))[-1]
    return json.loads(newest.read_text())


def call(tool: str, *arguments: object) -> None:
    """Run a tool as a user would.

    Raises:
        UserError: If it fails.
    """
    if subprocess.run([sys.executable, str(ROOT / tool), *map(str, arguments)]).returncode:
        raise UserError(f'{tool} failed; its message stands above')


if __name__ == '__main__':
    run_tool(main)
