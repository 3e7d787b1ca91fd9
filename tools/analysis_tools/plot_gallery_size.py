"""Plot search mAP against gallery size, one line a run."""

import argparse
import json
from pathlib import Path

from figures import name_runs, save_figure
from matplotlib.figure import Figure

from mmps_kd.errors import UserError, run_tool

ALL_IMAGES = 6978
"""Images of the full CUHK-SYSU test set: where ``gallery_all`` stands on the axis."""


def parse_args() -> argparse.Namespace:
    """Arguments of the tool."""
    parser = argparse.ArgumentParser(description='Plot search figures against the CUHK-SYSU gallery size')
    parser.add_argument('metrics', nargs='+', help='JSON files that eval_results.py --out wrote, one a run')
    parser.add_argument('--labels', nargs='+', help="the runs' names; default: the file names")
    parser.add_argument('--figure', default='mAP', help='which figure: mAP, top1, top5 or top10')
    parser.add_argument('--out', default='gallery_size.png', help='picture to write; the CSV goes beside it')
    return parser.parse_args()


def read_sizes(path: str, figure: str) -> dict[int, float]:
    """The figure by gallery size, ascending, in per cent."""
    try:
        metrics = json.loads(Path(path).read_text())
        sizes = {key.removeprefix('gallery_'): value for key, value in metrics.items() if key.startswith('gallery_')}
        points = {ALL_IMAGES if size == 'all' else int(size): 100 * value[figure] for size, value in sizes.items()}
    except FileNotFoundError:
        raise UserError(f'{path} does not exist') from None
    except KeyError:
        raise UserError(f"{path} has no figure '{figure}'") from None
    except (ValueError, AttributeError, TypeError):
        raise UserError(f'{path} is not a file that eval_results.py --out wrote') from None
    if not points:
        raise UserError(f'{path} holds no gallery sizes: evaluate with cuhk-sysu --gallery-size 50 100 ... --out')
    return dict(sorted(points.items()))


def plot(runs: dict[str, dict[int, float]], figure_name: str) -> Figure:
    """One line a run over a logarithmic axis of gallery sizes."""
    figure = Figure(figsize=(5, 4))
    axes = figure.subplots()
    for name, points in runs.items():
        axes.plot(list(points), list(points.values()), marker='o', label=name)
    sizes = sorted(set().union(*runs.values()))
    axes.set_xscale('log')
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set(xlabel='gallery size (images)', ylabel=f'{figure_name} (%)')
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def main() -> None:
    """Read, plot, write."""
    args = parse_args()
    names = name_runs(args.metrics, args.labels)
    runs = {name: read_sizes(path, args.figure) for name, path in zip(names, args.metrics, strict=True)}
    rows = [(name, size, value) for name, points in runs.items() for size, value in points.items()]
    save_figure(plot(runs, args.figure), args.out, ['run', 'gallery_size', f'{args.figure}_percent'], rows)


if __name__ == '__main__':
    run_tool(main)
