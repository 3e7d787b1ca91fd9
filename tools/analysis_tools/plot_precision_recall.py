"""Plot the precision-recall curve of a search, one line a run."""

import argparse

import numpy as np
from figures import name_runs, read_per_query, save_figure
from matplotlib.figure import Figure

from mmps_kd.errors import run_tool
from mmps_kd.evaluation.functional import mean_precision_at_recall

LEVELS = np.linspace(0, 1, 101)


def parse_args() -> argparse.Namespace:
    """Arguments of the tool."""
    parser = argparse.ArgumentParser(description='Plot interpolated precision against recall, mean over the queries')
    parser.add_argument('queries', nargs='+', help='CSV files that eval_results.py --per-query wrote, one a run')
    parser.add_argument('--labels', nargs='+', help="the runs' names; default: the file names")
    parser.add_argument('--out', default='precision_recall.png', help='picture to write; the CSV goes beside it')
    return parser.parse_args()


def read_curve(path: str) -> np.ndarray:
    """(101,) precision at recall 0, 0.01, ..., 1."""
    queries = read_per_query(path)
    offsets = np.cumsum([0, *map(len, queries['precisions'])])
    return mean_precision_at_recall(np.concatenate(queries['precisions']), offsets, queries['true_boxes'], LEVELS)


def plot(curves: dict[str, np.ndarray]) -> Figure:
    """One line a run."""
    figure = Figure(figsize=(5, 4))
    axes = figure.subplots()
    for name, precision in curves.items():
        axes.plot(LEVELS, precision, label=name)
    axes.set(xlabel='recall', ylabel='precision', xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def main() -> None:
    """Read, plot, write."""
    args = parse_args()
    names = name_runs(args.queries, args.labels)
    curves = {name: read_curve(path) for name, path in zip(names, args.queries, strict=True)}
    rows = zip(LEVELS.round(2), *curves.values(), strict=True)
    save_figure(plot(curves), args.out, ['recall', *curves], rows)


if __name__ == '__main__':
    run_tool(main)
