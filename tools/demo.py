"""The whole story on a small synthetic data set: a teacher, its table, and one small student taught three ways.

Writes the data set, trains and evaluates a Detect+OIM teacher, extracts its table of ID vectors, and trains the same
small student alone, with the teacher as detector, and with the table; draws rankings and training curves.
"""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from terminaltables import AsciiTable

from mmps_kd.engine.checkpoint import last_checkpoint, last_test, last_validation
from mmps_kd.errors import UserError, run_tool
from mmps_kd.testing.synthetic import dataset_size, write_dataset

ROOT = Path(__file__).resolve().parents[1]
TEACHER = ROOT / 'configs/demo/oim_r18-narrow_mini.py'
STUDENTS = {
    'student': ROOT / 'configs/demo/oim_r18-quarter_mini.py',
    'student + detector KD': ROOT / 'configs/demo/det_oim-r18-narrow_oim_r18-quarter_mini.py',
    'student + LUT KD': ROOT / 'configs/demo/lut_oim-r18-narrow_oim_r18-quarter_mini.py',
}
COLUMNS = {
    'search/mAP': 'search mAP',
    'search/top1': 'top-1',
    'search/top5': 'top-5',
    'search/top10': 'top-10',
    'search/det_ap': 'detection AP',
    'search/det_recall': 'recall',
}
Figures = dict[str, float]


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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
    say(f'1/6  data set: {data_root}')
    write_dataset(data_root, 'cuhk-sysu', args.size, seed=args.seed, jobs=args.jobs)
    options = [*data_options(data_root, args.size), f'randomness.seed={args.seed}', *args.cfg_options]

    say('2/6  the untrained teacher, all its boxes kept')
    untrained = args.work_dir / 'untrained.pth'
    save_untrained(TEACHER, untrained, args.seed)
    keep_all = ['model.test_cfg.rcnn.score_thr=0.0', 'test_evaluator.score_thr=0.0']
    figures = {'untrained': evaluate(TEACHER, untrained, args.work_dir / 'test_untrained', options + keep_all)}

    say(f'3/6  training the teacher: {TEACHER}')
    train_dir = args.work_dir / 'train'
    call('tools/train.py', TEACHER, '--work-dir', train_dir, '--cfg-options', *options)
    checkpoint = last_checkpoint(train_dir)

    say(f'4/6  evaluation of {checkpoint}')
    figures['teacher'] = evaluate(TEACHER, checkpoint, args.work_dir / 'test', options, '--show-dir', 'pictures')
    rankings = sorted(args.work_dir.glob('test/*/pictures/rankings'))[-1]

    table = args.work_dir / 'lut.safetensors'
    say(f'5/6  the table of ID vectors: {table}')
    extract = (TEACHER, checkpoint, '--source', 'boxes', '--out', table)
    call('tools/extract_lut.py', *extract, '--cfg-options', *options)

    say('6/6  the same small student, taught three ways side by side')
    figures.update(train_students(args.work_dir, checkpoint, table, options))
    curves = args.work_dir / 'curves.png'
    draw_curves(args.work_dir, curves)

    print_table(figures, f'synthetic data ({args.size}), gallery of 100, seed {args.seed}')
    print(f'checkpoint  {checkpoint}')
    print(f'logs        {train_dir}, {args.work_dir / "students"}')
    print(f'rankings    {rankings}')
    print(f'curves      {curves}')
    print(f'time        {(time.time() - start) / 60:.1f} min')


def say(text: str) -> None:
    """A heading between the steps' own output."""
    print(f'\n=== {text}', flush=True)


def data_options(data_root: Path, size: str) -> list[str]:
    """Overrides that point a config to a data set."""
    roots = [f'{loader}_dataloader.dataset.data_root={data_root}/' for loader in ('train', 'val', 'test')]
    identities = dataset_size('cuhk-sysu', size).train.identities
    return [*roots, f'model.roi_head.reid_head.loss_oim.num_identities={identities}']


def save_untrained(config: Path, path: Path, seed: int) -> None:
    """Write a checkpoint of the model as it is before training."""
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    set_random_seed(seed)
    model = MODELS.build(cfg.model)
    model.init_weights()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=model.state_dict()), path)


def evaluate(config: Path, checkpoint: Path, work_dir: Path, options: list[str], *arguments: str) -> Figures:
    """Run tools/test.py and read the figures that it logged."""
    call('tools/test.py', config, checkpoint, '--work-dir', work_dir, *arguments, '--cfg-options', *options)
    return last_test(work_dir)


def train_students(work_dir: Path, teacher: Path, table: Path, options: list[str]) -> dict[str, Figures]:
    """Train all students at once, one thread each, with the same seed and order of the data.

    Returns:
        The last validation's figures of each.
    """
    own_options = {
        'student': [],
        'student + detector KD': [f'model.teacher.config={TEACHER}', f'model.teacher.checkpoint={teacher}'],
        'student + LUT KD': [f'model.lut.lut_file={table}'],
    }

    def train(name: str) -> Figures:
        folder = student_dir(work_dir, name)
        arguments = (STUDENTS[name], '--work-dir', folder, '--cfg-options', *options, *own_options[name])
        call('tools/train.py', *arguments, say_only=name)
        return last_validation(folder)

    with ThreadPoolExecutor() as pool:
        return dict(zip(STUDENTS, pool.map(train, STUDENTS), strict=True))


def student_dir(work_dir: Path, name: str) -> Path:
    """A student's work_dir."""
    return work_dir / 'students' / STUDENTS[name].stem


def draw_curves(work_dir: Path, out: Path) -> None:
    """Search mAP of all students over the iterations."""
    runs = [student_dir(work_dir, name) for name in STUDENTS]
    call('tools/analysis_tools/analyze_logs.py', *runs, '--keys', 'search/mAP', '--labels', *STUDENTS, '--out', out)


def call(tool: str, *arguments: object, say_only: str | None = None) -> None:
    """Run a tool as a user would.

    Args:
        tool: Script, relative to the repository.
        arguments: Its arguments.
        say_only: Name for one of several that run at once: on one thread, and only validation's figures and errors
            are shown, after the name; the rest is in the work_dir's log.

    Raises:
        UserError: If it fails.
    """
    command = [sys.executable, str(ROOT / tool), *map(str, arguments)]
    if say_only is None:
        code = subprocess.run(command).returncode
    else:
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        with subprocess.Popen(command, env={**os.environ, 'OMP_NUM_THREADS': '1'}, **pipes) as process:
            failed = False
            for line in process.stdout:
                failed = failed or line.startswith(('error:', 'Traceback'))
                if failed or 'search/mAP' in line:
                    print(f'{say_only}: {line[max(line.find("Epoch("), 0) :].rstrip()}', flush=True)
        code = process.returncode
    if code:
        raise UserError(f'{tool} failed; its message stands above')


def print_table(figures: dict[str, Figures], title: str) -> None:
    """One row a system, in percent."""
    rows = [[name, *(f'{100 * values[key]:.1f}' for key in COLUMNS)] for name, values in figures.items()]
    print(AsciiTable([['%', *COLUMNS.values()], *rows], title=f' {title} ').table)


if __name__ == '__main__':
    run_tool(main)
