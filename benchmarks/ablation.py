"""Trainings that differ in a few settings: run row by row and seed by seed, resumable, and put into a table."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mmengine.config import Config

from mmps_kd.engine.checkpoint import last_checkpoint, last_test, last_validation
from mmps_kd.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Row:
    """One row of an ablation: a config, what is changed in it, and figures of extra tests.

    Attributes:
        config: Config file; trained for its number of epochs, validated after the last.
        model: Merged into the config's ``model``.
        options: Merged into the config, as by ``--cfg-options``.
        tests: Column by overrides: search mAP of the trained model under ``tools/test.py --cfg-options``.
    """

    config: Path
    model: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)
    tests: dict[str, Sequence[str]] = field(default_factory=dict)


def longer(config: Path, times: int) -> dict:
    """Options of a :class:`Row` that stretch the config's schedule."""
    cfg = Config.fromfile(config)
    milestones = [times * epoch for epoch in cfg.param_scheduler[1].milestones]
    return {'train_cfg.max_epochs': times * cfg.train_cfg.max_epochs, 'param_scheduler.1.milestones': milestones}


def run_rows(work_dir: Path, rows: dict[str, Row], seeds: Sequence[int], jobs: int) -> None:
    """Run what is missing, all rows of a seed before the next seed; the seed fixes weights and order of the data."""
    work_dir.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(jobs) as pool:
        runs = [pool.submit(run, work_dir, name, row, seed) for seed in seeds for name, row in rows.items()]
        for job in runs:
            job.result()


def run(work_dir: Path, name: str, row: Row, seed: int) -> None:
    """Train and evaluate once unless the figures are there."""
    folder = run_dir(work_dir, name, seed)
    if (folder / 'figures.json').exists():
        return
    folder.mkdir(exist_ok=True)
    cfg = Config.fromfile(row.config)
    cfg.merge_from_dict(row.options)
    once = dict(val_interval=cfg.train_cfg.max_epochs)
    cfg.merge_from_dict(dict(model=row.model, randomness=dict(seed=seed), train_cfg=once))
    cfg.val_evaluator.out_file = str(folder / 'results.npz')
    cfg.dump(folder / 'config.py')
    call(folder / 'train.log', 'tools/train.py', folder / 'config.py', '--work-dir', folder)
    logged = last_validation(folder)
    figures = {key.removeprefix('search/'): value for key, value in logged.items() if key.startswith('search/')}
    for column, overrides in row.tests.items():
        figures[column] = search_map(folder, column, overrides)
    (folder / 'figures.json').write_text(json.dumps(figures))


def search_map(folder: Path, name: str, overrides: Sequence[str]) -> float:
    """Search mAP of a trained run under other test settings."""
    out = folder / name
    files = ('--work-dir', out, '--out', folder / f'{name}.npz')
    arguments = (folder / 'config.py', last_checkpoint(folder), *files, '--cfg-options', *overrides)
    call(folder / f'{name}.log', 'tools/test.py', *arguments)
    return last_test(out)['search/mAP']


def run_dir(work_dir: Path, name: str, seed: int) -> Path:
    """Where a row's run of one seed is kept."""
    return work_dir / f'{name.replace(" ", "_")}_seed{seed}'


def call(log: Path, tool: str, *arguments: object) -> None:
    """Run a tool on one thread, its output in a file."""
    command = [sys.executable, str(ROOT / tool), *map(str, arguments)]
    with open(log, 'w') as file:
        done = subprocess.run(command, stdout=file, stderr=file, env={**os.environ, 'OMP_NUM_THREADS': '1'}, cwd=ROOT)
    if done.returncode:
        raise UserError(f'{tool} failed; its output is in {log}')


def table_lines(work_dir: Path, names: Sequence[str], seeds: Sequence[int], columns: dict[str, str]) -> list[str]:
    """A Markdown table in percent: mean and sample standard deviation over the seeds.

    Args:
        work_dir: Of :func:`run_rows`.
        names: Rows; the last column is the difference in search mAP from the first of them, paired by seed.
        seeds: At least two.
        columns: Headings by figure, ``mAP`` first; a figure that a row does not have leaves its cell empty.
    """
    heads = ['row', *columns.values(), f'mAP - {names[0]}, paired']
    lines = ['| ' + ' | '.join(heads) + ' |', '|' + ' --- |' * len(heads)]
    baseline = read(work_dir, names[0], seeds, ['mAP'])
    for name in names:
        values = read(work_dir, name, seeds, list(columns))
        cells = [mean_and_spread(column) for column in values.T]
        gain = values[:, :1] - baseline
        lines.append(f'| {name} | ' + ' | '.join([*cells, mean_and_spread(gain[:, 0], sign='+')]) + ' |')
    return lines


def mean_and_spread(values: np.ndarray, sign: str = '') -> str:
    """Mean and sample standard deviation; nothing where there is no figure."""
    if np.isnan(values).any():
        return ''
    return f'{values.mean():{sign}.1f} ± {values.std(ddof=1):.1f}'


def read(work_dir: Path, name: str, seeds: Sequence[int], figures: Sequence[str]) -> np.ndarray:
    """(seeds, figures) in percent."""
    files = [run_dir(work_dir, name, seed) / 'figures.json' for seed in seeds]
    found = [json.loads(file.read_text()) for file in files]
    return np.array([[100 * run.get(figure, np.nan) for figure in figures] for run in found])
