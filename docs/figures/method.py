"""Draw the figure of the method: ``python docs/figures/method.py`` writes ``docs/images/method.svg``."""

import argparse
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

OUT = Path(__file__).resolve().parents[1] / 'images/method.svg'
STUDENT, TEACHER, TABLE, LOSS, GREY = '#dbe9f6', '#f6e3cf', '#dff0dc', '#b3261e', '#5f6368'
COLUMNS = {'image': 0.1, 'backbone': 2.7, 'rpn': 5.3, 'roi': 7.9, 'out': 10.5}
ROWS = {'teacher': 5.0, 'student': 2.6, 'table': 0.4}
WIDTH, HEIGHT = 1.9, 1.0


def parse_args() -> argparse.Namespace:
    """Arguments of the script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=OUT, help='picture to write')
    return parser.parse_args()


def box(ax: Axes, column: str, row: str, text: str, colour: str) -> None:
    """A part of a network."""
    x, y = COLUMNS[column], ROWS[row]
    style = 'round,pad=0,rounding_size=0.12'
    ax.add_patch(FancyBboxPatch((x, y), WIDTH, HEIGHT, boxstyle=style, facecolor=colour, edgecolor=GREY, linewidth=1))
    ax.text(x + WIDTH / 2, y + HEIGHT / 2, text, ha='center', va='center', fontsize=12)


def flow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """What a part hands on."""
    arrow = dict(arrowstyle='-|>', mutation_scale=12, color=GREY, linewidth=1.2)
    ax.add_patch(FancyArrowPatch(start, end, shrinkA=0, shrinkB=0, **arrow))


def loss(ax: Axes, x: float, rows: tuple[str, str], text: str) -> None:
    """A loss between the parts of two rows that stand above each other at x."""
    low, high = ROWS[rows[0]] + HEIGHT, ROWS[rows[1]]
    line = dict(arrowstyle='<|-|>', mutation_scale=11, color=LOSS, linewidth=1.3, linestyle=(0, (4, 2)))
    ax.add_patch(FancyArrowPatch((x, low), (x, high), shrinkA=2, shrinkB=2, **line))
    ax.text(x + 0.12, (low + high) / 2, text, ha='left', va='center', fontsize=11, color=LOSS)


def draw_network(ax: Axes, row: str, colour: str, names: tuple[str, str, str]) -> None:
    """Backbone, RPN and RoI head of one network, with what goes from one to the next."""
    y = ROWS[row] + HEIGHT / 2
    for (column, left), name in zip(list(COLUMNS.items())[1:4], names, strict=True):
        box(ax, column, row, name, colour)
        if column != 'backbone':
            flow(ax, (left - (2.6 - WIDTH), y), (left, y))


def draw(ax: Axes) -> None:
    """Teacher above, student in the middle, table below."""
    middle = {name: left + WIDTH / 2 for name, left in COLUMNS.items()}
    y = {name: bottom + HEIGHT / 2 for name, bottom in ROWS.items()}
    draw_network(ax, 'teacher', TEACHER, ('backbone', 'RPN head', 'box head'))
    draw_network(ax, 'student', STUDENT, ('backbone', 'RPN head', 'box head,\nre-id head'))
    box(ax, 'image', 'student', 'image,\nboxes, ids', 'white')
    box(ax, 'out', 'student', 'boxes, scores,\nembeddings', 'white')
    box(ax, 'roi', 'table', 'table of ID\nvectors, frozen', TABLE)
    box(ax, 'backbone', 'table', 're-id teacher\n(QEEPS, OIM)', TEACHER)
    flow(ax, (COLUMNS['image'] + WIDTH, y['student']), (COLUMNS['backbone'], y['student']))
    flow(ax, (COLUMNS['roi'] + WIDTH, y['student']), (COLUMNS['out'], y['student']))
    flow(ax, (middle['image'], ROWS['student'] + HEIGHT), (COLUMNS['backbone'], y['teacher']))
    flow(ax, (COLUMNS['backbone'] + WIDTH, y['table']), (COLUMNS['roi'], y['table']))
    ax.text(
        middle['rpn'],
        y['table'] + 0.1,
        'before training:\none vector an identity',
        ha='center',
        va='bottom',
        fontsize=11,
    )
    pair = ('student', 'teacher')
    loss(ax, middle['backbone'], pair, 'hint: feature maps')
    loss(ax, middle['rpn'], pair, 'same anchors:\nobjectness, deltas')
    loss(ax, middle['roi'], pair, 'same RoIs:\nclasses, deltas')
    loss(ax, middle['roi'], ('table', 'student'), 'OIM against\nthe table')
    label = dict(ha='left', va='center', fontsize=11, color=GREY)
    ax.text(COLUMNS['roi'] + WIDTH + 0.25, y['teacher'], 'detector teacher: frozen,\nin training only', **label)
    ax.text(COLUMNS['out'], ROWS['student'] - 0.4, 'the student alone\nat test time', **label)


def main() -> None:
    """Write the figure, the same bytes each time."""
    out = parse_args().out
    figure = Figure(figsize=(11.2, 5.4))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 12.6), ylim=(0.2, 6.1))
    ax.axis('off')
    draw(ax)
    with matplotlib.rc_context({'svg.hashsalt': 'mmps_kd'}):
        figure.savefig(out, metadata={'Date': None})


if __name__ == '__main__':
    main()
