"""Ablation of the distillation parts on synthetic data: same seeds, same order of the data for every row.

The teacher is the model of ``make demo`` (run that first). Rows that are done are not run again.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from mmengine.config import Config

from mmps_kd.errors import UserError, run_tool

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / 'work_dirs/demo'
TEACHER_CONFIG = ROOT / 'configs/demo/oim_r18-narrow_mini.py'
STUDENT_CONFIG = ROOT / 'configs/demo/oim_r18-quarter_mini.py'
FIGURES = ('mAP', 'top1', 'det_ap', 'det_recall')

HINT = dict(at='backbone.0', loss=dict(type='FeatureImitationLoss', loss_weight=1.0))
NEAR_PEOPLE = dict(at='backbone.0', loss=dict(type='FeatureImitationLoss', mode='fine_grained', loss_weight=0.01))
LOGITS = [dict(at=at, loss=dict(type='LogitDistillationLoss', loss_weight=0.5)) for at in ('rpn.cls', 'roi.cls')]
BOXES = [dict(at=at, loss=dict(type='BoundedRegressionLoss', loss_weight=0.5)) for at in ('rpn.bbox', 'roi.bbox')]
ID_FEATURES = dict(at='roi.embedding', loss=dict(type='IDFeatureLoss', loss_weight=1.0))
# mu = 0.5: where soft targets come in, the hard classification losses count half.
HALF_HARD = dict(
    rpn_head=dict(loss_cls=dict(loss_weight=0.5)), roi_head=dict(bbox_head=dict(loss_cls=dict(loss_weight=0.5)))
)


def rows(work_dir: Path) -> dict[str, dict]:
    """What each row changes in the student's ``model``."""
    teacher = dict(config=str(TEACHER_CONFIG), checkpoint=str(last_checkpoint(DEMO / 'train')))

    def detector(*terms: dict, **hard: dict) -> dict:
        return dict(type='PersonSearchDistiller', teacher=teacher, distillation=list(terms), **hard)

    def table(source: str, **more: object) -> dict:
        lut = dict(type='LUTDistiller', lut_file=str(work_dir / f'{source}.safetensors'), **more)
        return dict(type='PersonSearchDistiller', lut=lut)

    full = detector(HINT, *LOGITS, *BOXES, **HALF_HARD)
    return {
        'plain': {},
        'hint': detector(HINT),
        'fine-grained hint': detector(NEAR_PEOPLE),
        'logits': detector(*LOGITS, **HALF_HARD),
        'bounded regression': detector(*BOXES),
        'detector KD': full,
        'ID-feature regression': {**table('memory', thaw_epoch=0), 'distillation': [ID_FEATURES]},
        'LUT from memory': table('memory'),
        'LUT from boxes': table('boxes'),
        'LUT + detector KD': {**full, **table('boxes')},
    }


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--rows', nargs='+', help='names of rows; all by default')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--jobs', type=int, default=2, help='runs at a time, one thread each')
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs/kd_ablation')
    parser.add_argument('--out', type=Path, help='write the table (Markdown) to this file')
    return parser.parse_args()


def main() -> None:
    """Extract the tables, run what is missing, print the table."""
    args = parse_args()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    for source in ('memory', 'boxes'):
        extract_table(args.work_dir / f'{source}.safetensors', source)
    models = rows(args.work_dir)
    unknown = set(args.rows or []) - set(models)
    if unknown:
        raise UserError(f'no row {unknown.pop()}: choose from {", ".join(models)}')
    names = args.rows or list(models)
    with ThreadPoolExecutor(args.jobs) as pool:
        runs = [pool.submit(run, args.work_dir, name, models[name], seed) for seed in args.seeds for name in names]
        for job in runs:
            job.result()
    text = '\n'.join(table_lines(args.work_dir, names, args.seeds))
    print(text)
    if args.out is not None:
        args.out.write_text(text + '\n')


def last_checkpoint(folder: Path) -> Path:
    """The newest checkpoint of a run."""
    pointer = folder / 'last_checkpoint'
    if not pointer.is_file():
        raise UserError(f'there is no trained teacher in {folder}: run make demo first')
    return Path(pointer.read_text())


def extract_table(path: Path, source: str) -> None:
    """Write the teacher's table unless it is there."""
    if not path.exists():
        checkpoint = last_checkpoint(DEMO / 'train')
        call(
            path.with_suffix('.log'),
            'tools/extract_lut.py',
            TEACHER_CONFIG,
            checkpoint,
            '--source',
            source,
            '--out',
            path,
        )


def run(work_dir: Path, name: str, model: dict, seed: int) -> None:
    """Train one student unless its figures are there."""
    folder = work_dir / f'{name.replace(" ", "_")}_seed{seed}'
    result = folder / 'figures.json'
    if result.exists():
        return
    folder.mkdir(exist_ok=True)
    cfg = Config.fromfile(STUDENT_CONFIG)
    cfg.merge_from_dict(
        dict(model=model, randomness=dict(seed=seed), train_cfg=dict(val_interval=cfg.train_cfg.max_epochs))
    )
    cfg.dump(folder / 'config.py')
    call(folder / 'train.log', 'tools/train.py', folder / 'config.py', '--work-dir', folder)
    scalars = sorted(folder.glob('*/vis_data/scalars.json'))[-1].read_text().splitlines()
    last = [json.loads(line) for line in scalars if 'search/mAP' in line][-1]
    result.write_text(json.dumps({key: last[f'search/{key}'] for key in FIGURES}))


def call(log: Path, tool: str, *arguments: object) -> None:
    """Run a tool on one thread, its output in a file."""
    command = [sys.executable, str(ROOT / tool), *map(str, arguments)]
    with open(log, 'w') as file:
        done = subprocess.run(command, stdout=file, stderr=file, env={**os.environ, 'OMP_NUM_THREADS': '1'}, cwd=ROOT)
    if done.returncode:
        raise UserError(f'{tool} failed; its output is in {log}')


def table_lines(work_dir: Path, names: list[str], seeds: list[int]) -> list[str]:
    """Mean and sample standard deviation over the seeds, and the paired difference from the plain student."""
    lines = [
        '| row | search mAP | top-1 | detection AP | recall | mAP - plain, paired |',
        '| --- | --- | --- | --- | --- | --- |',
    ]
    figures = {name: read(work_dir, name, seeds) for name in names}
    for name, values in figures.items():
        cells = [
            f'{mean:.1f} ± {spread:.1f}' for mean, spread in zip(values.mean(0), values.std(0, ddof=1), strict=True)
        ]
        if 'plain' in figures:
            gain = values[:, 0] - figures['plain'][:, 0]
            cells.append(f'{gain.mean():+.1f} ± {gain.std(ddof=1):.1f}')
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    return lines


def read(work_dir: Path, name: str, seeds: list[int]) -> np.ndarray:
    """(seeds, figures) in percent."""
    files = [work_dir / f'{name.replace(" ", "_")}_seed{seed}/figures.json' for seed in seeds]
    return np.array([[100 * json.loads(file.read_text())[key] for key in FIGURES] for file in files])


if __name__ == '__main__':
    run_tool(main)
