"""Plot losses and figures of training runs over iterations, several runs in one picture."""

import argparse
import json
from pathlib import Path

from figures import name_runs, save_figure
from matplotlib.figure import Figure

from mmps_kd.errors import UserError, run_tool

Curve = tuple[list[int], list[float]]


def parse_args() -> argparse.Namespace:
    """Arguments of the tool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('runs', nargs='+', help='work_dirs of runs, or scalars.json files')
    parser.add_argument('--keys', nargs='+', default=['loss'], help='what to plot: search/mAP, loss_oim, ...')
    parser.add_argument('--labels', nargs='+', help="the runs' names; default: the names of folders or files")
    parser.add_argument('--out', default='curves.png', help='picture to write; the CSV goes beside it')
    return parser.parse_args()


def read_lines(run: str) -> list[dict]:
    """All that a run logged, in order; a resumed run has a folder for each start."""
    path = Path(run)
    files = [path] if path.is_file() else sorted(path.glob('*/vis_data/scalars.json'))
    if not files:
        raise UserError(f'{run} holds no scalars.json: name a work_dir of tools/train.py')
    try:
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]
    except ValueError:
        raise UserError(f'{run} is not a log that tools/train.py wrote') from None


def read_curve(run: str, key: str) -> Curve:
    """Iterations and values of one key.

    Figures of validation stand at the last iteration that was logged before. Where a resumed run went over
    iterations again, the later value counts.
    """
    points, iteration, seen = {}, 0, set()
    for line in read_lines(run):
        iteration = line.get('iter', iteration)
        seen.update(line)
        if key in line:
            points[iteration] = line[key]
    if not points:
        raise UserError(f"{run} never logged '{key}': it has {', '.join(sorted(seen))}")
    steps = sorted(points)
    return steps, [points[step] for step in steps]


def plot(curves: dict[str, dict[str, Curve]]) -> Figure:
    """One panel a key, one line a run; few points are marked."""
    figure = Figure(figsize=(5.5 * len(curves), 4))
    for axes, (key, runs) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        for name, (steps, values) in runs.items():
            axes.plot(steps, values, marker='o' if len(steps) <= 20 else None, label=name)
        axes.set(xlabel='iteration', ylabel=key)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def main() -> None:
    """Read, plot, write."""
    args = parse_args()
    names = name_runs(args.runs, args.labels)
    curves = {
        key: {name: read_curve(run, key) for name, run in zip(names, args.runs, strict=True)} for key in args.keys
    }
    rows = [
        (name, key, step, value)
        for key, runs in curves.items()
        for name, (steps, values) in runs.items()
        for step, value in zip(steps, values, strict=True)
    ]
    save_figure(plot(curves), args.out, ['run', 'key', 'iteration', 'value'], rows)


if __name__ == '__main__':
    run_tool(main)
