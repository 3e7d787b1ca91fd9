"""What the plotting tools share: a picture with its numbers beside it, and the per-query file."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib
import numpy as np

from mmps_kd.errors import UserError

matplotlib.use('Agg')


def save_figure(figure: 'matplotlib.figure.Figure', out: str, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Write the picture to ``out`` and what it shows to a CSV file of the same name."""
    path = Path(out)
    if path.suffix not in ('.png', '.pdf', '.svg'):
        raise UserError(f'--out {out} must end in .png, .pdf or .svg')
    if not path.parent.is_dir():
        raise UserError(f'there is no folder {path.parent} to write {path.name} to')
    figure.savefig(path, bbox_inches='tight', dpi=150)
    with path.with_suffix('.csv').open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    print(f'wrote {path} and {path.with_suffix(".csv")}')


def name_runs(files: Sequence[str], labels: Sequence[str] | None) -> list[str]:
    """Names for the legend: those given, or the files' stems."""
    if labels is None:
        return [Path(file).stem for file in files]
    if len(labels) != len(files):
        raise UserError(f'{len(labels)} --labels for {len(files)} files')
    return list(labels)


def read_per_query(path: str) -> dict[str, np.ndarray | list[np.ndarray]]:
    """Columns of a file that ``eval_results.py --per-query`` wrote.

    Returns:
        ``ap`` (Q,) float, ``true_boxes`` (Q,) int, ``precisions`` one float array a query.
    """
    try:
        with open(path, newline='') as file:
            rows = list(csv.DictReader(file))
        return dict(
            ap=np.array([float(row['ap']) for row in rows]),
            true_boxes=np.array([int(row['true_boxes']) for row in rows]),
            precisions=[np.array(row['precisions'].split(), dtype=float) for row in rows],
        )
    except FileNotFoundError:
        raise UserError(f'{path} does not exist') from None
    except (KeyError, ValueError, TypeError, AttributeError):
        raise UserError(f'{path} is not a file that eval_results.py --per-query wrote') from None
