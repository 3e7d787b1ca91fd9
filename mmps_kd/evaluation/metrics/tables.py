"""Tables of figures in the log, in per cent."""

from collections.abc import Mapping, Sequence

from mmengine.logging import print_log
from terminaltables import AsciiTable

from ..functional import SearchScores


def search_figures(scores: SearchScores) -> dict[str, float]:
    """``mAP``, ``top1``, ... as fractions."""
    return dict(mAP=scores.mAP, **{f'top{k}': share for k, share in scores.topk.items()})


def search_header(topk: Sequence[int]) -> list[str]:
    """First line of a table of search figures."""
    return ['search (%)', 'mAP', *(f'top-{k}' for k in topk)]


def table_row(name: str, figures: Mapping[str, float]) -> list[str]:
    """A line of figures, given as fractions."""
    return [name, *(f'{100 * value:.2f}' for value in figures.values())]


def print_table(rows: list[list[str]]) -> None:
    """Write a table to the log."""
    print_log('\n' + AsciiTable(rows).table, logger='current')
