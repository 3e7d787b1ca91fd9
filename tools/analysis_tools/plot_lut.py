"""Plot a table of ID vectors in two dimensions, a teacher's beside a student's, and how far their neighbours agree."""

import argparse
from pathlib import Path

import numpy as np
from figures import name_runs, save_figure
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure

from mmps_kd.apis.lut import rows_from_memory
from mmps_kd.errors import UserError, run_tool
from mmps_kd.models.distillers import LookUpTable, identities_sha256, load_lut
from mmps_kd.models.utils.checkpoint_io import read_checkpoint


def parse_args() -> argparse.Namespace:
    """Arguments of the tool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('tables', nargs='+', help='one or two: .safetensors of extract_lut.py, or .pth of train.py')
    parser.add_argument('--labels', nargs='+', help="the tables' names; default: the names of the files")
    parser.add_argument('--out', default='lut.png', help='picture to write; the CSV goes beside it')
    return parser.parse_args()


def read_table(path: str) -> LookUpTable:
    """A table from its file, or the OIM table out of a checkpoint."""
    if Path(path).suffix == '.safetensors':
        return load_lut(path)
    rows, metainfo = rows_from_memory(read_checkpoint(path), path)
    return LookUpTable(
        rows, metainfo['dataset_name'], identities_sha256(metainfo['identities']), 'memory', '', '', file=path
    )


def check_tables(tables: list[LookUpTable]) -> None:
    """Refuse what cannot be drawn or compared."""
    if len(tables) > 2:
        raise UserError(f'{len(tables)} tables: give one, or a teacher and a student')
    for table in tables:
        if len(table.rows) < 3 or table.dim < 2:
            raise UserError(f'{table.file}: {len(table.rows)} x {table.dim} is too small a table to be drawn')
    if len({(table.dataset, table.pids_sha256) for table in tables}) > 1:
        raise UserError(f'{tables[0].file} and {tables[1].file} are of different identities: they cannot be compared')


def project(rows: np.ndarray) -> tuple[np.ndarray, float]:
    """Principal components: (L, 2) coordinates of rows (L, D), and their share of the variance, 0..1."""
    u, s, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    return u[:, :2] * s[:2], float((s[:2] ** 2).sum() / (s**2).sum())


def turn_onto(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Turn and mirror points (L, 2) to lie as close to others (L, 2) as they can."""
    u, _, vt = np.linalg.svd(points.T @ target)
    return points @ u @ vt


def neighbour_agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Share of the identities whose nearest other identity, by the cosine, is the same in two tables of unit rows."""
    return float((_nearest(one) == _nearest(other)).mean())


def _nearest(rows: np.ndarray) -> np.ndarray:
    similarities = rows @ rows.T
    np.fill_diagonal(similarities, -np.inf)
    return similarities.argmax(axis=1)


def colours_by_place(points: np.ndarray) -> np.ndarray:
    """(L, 3) RGB: the direction of a point from the middle is its hue, so that what stays together is seen."""
    hue = np.arctan2(points[:, 1], points[:, 0]) / (2 * np.pi) % 1
    return hsv_to_rgb(np.column_stack([hue, np.full((len(hue), 2), (0.85, 0.8))]))


def plot(points: list[np.ndarray], titles: list[str], heading: str) -> Figure:
    """One panel a table; an identity has the same colour in both."""
    figure = Figure(figsize=(5.5 * len(points), 5.5), layout='constrained')
    panels = figure.subplots(1, len(points), squeeze=False, sharex=True, sharey=True)[0]
    colours = colours_by_place(points[0])
    for axes, places, title in zip(panels, points, titles, strict=True):
        axes.scatter(*places.T, c=colours, s=np.clip(6000 / len(places), 4, 40), edgecolors='white', linewidths=0.4)
        axes.set_title(title, fontsize=10)
        axes.set_aspect('equal')
        axes.grid(alpha=0.3)
    figure.suptitle(heading, y=1.04)  # above the panels' own titles
    return figure


def main() -> None:
    """Read, compare, plot, write."""
    args = parse_args()
    names = name_runs(args.tables, args.labels)
    tables = [read_table(path) for path in args.tables]
    check_tables(tables)
    rows = [table.rows.numpy() for table in tables]
    projected = [project(table) for table in rows]
    points = [projected[0][0], *(turn_onto(places, projected[0][0]) for places, _ in projected[1:])]
    titles = [
        f'{name}: {table.dim} dimensions, {share:.0%} of the variance shown'
        for name, table, (_, share) in zip(names, tables, projected, strict=True)
    ]
    heading = f'{len(rows[0])} identities of {tables[0].dataset}'
    if len(rows) == 2:
        heading += f': the nearest neighbour is the same for {neighbour_agreement(*rows):.1%}'
        heading += f' (by chance {1 / (len(rows[0]) - 1):.1%})'
    print(heading)
    lines = [
        (name, identity, *place)
        for name, places in zip(names, points, strict=True)
        for identity, place in enumerate(places.tolist())
    ]
    save_figure(plot(points, titles, heading), args.out, ['table', 'row', 'x', 'y'], lines)


if __name__ == '__main__':
    run_tool(main)
