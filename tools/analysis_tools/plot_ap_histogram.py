"""Plot how the queries' average precisions are spread, one outline a run."""

import argparse

import numpy as np
from figures import name_runs, read_per_query, save_figure
from matplotlib.figure import Figure

from mmps_kd.errors import run_tool


def parse_args() -> argparse.Namespace:
    """Arguments of the tool."""
    parser = argparse.ArgumentParser(description='Plot a histogram of the average precision of each query')
    parser.add_argument('queries', nargs='+', help='CSV files that eval_results.py --per-query wrote, one a run')
    parser.add_argument('--labels', nargs='+', help="the runs' names; default: the file names")
    parser.add_argument('--bins', type=int, default=20)
    parser.add_argument('--out', default='ap_histogram.png', help='picture to write; the CSV goes beside it')
    return parser.parse_args()


def plot(counts: dict[str, np.ndarray], edges: np.ndarray) -> Figure:
    """One outline a run."""
    figure = Figure(figsize=(5, 4))
    axes = figure.subplots()
    for name, values in counts.items():
        axes.stairs(values, edges, label=name)
    axes.set(xlabel='average precision of a query', ylabel='queries', xlim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def main() -> None:
    """Read, plot, write."""
    args = parse_args()
    names = name_runs(args.queries, args.labels)
    edges = np.linspace(0, 1, args.bins + 1)
    counts = {
        name: np.histogram(read_per_query(path)['ap'], edges)[0] for name, path in zip(names, args.queries, strict=True)
    }
    rows = zip(edges[:-1].round(4), edges[1:].round(4), *counts.values(), strict=True)
    save_figure(plot(counts, edges), args.out, ['from', 'to', *counts], rows)


if __name__ == '__main__':
    run_tool(main)
