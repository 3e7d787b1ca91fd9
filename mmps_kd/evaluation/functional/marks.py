"""Marks that a person set in the report of a search: reading them, and precision at k."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmps_kd.errors import UserError

FORMAT = 'mmps_kd marks 1'
_MARKS = {'right': True, 'wrong': False, None: None}

Box = tuple[str, tuple[float, float, float, float]]
"""Image, a path relative to the report's folder, and x1, y1, x2, y2 in its pixels as stored."""


@dataclass(frozen=True)
class MarkedQuery:
    """A query and the marks of its hits.

    Attributes:
        query: Boxes of the person searched for.
        hits: Most similar first.
        marks: Whether each hit is that person; None where nobody said.
    """

    query: tuple[Box, ...]
    hits: tuple[Box, ...]
    marks: tuple[bool | None, ...]


@dataclass(frozen=True)
class Marks:
    """The marks of a report.

    Attributes:
        report: Which one.
        queries: The search, and those in the browser of which hits are marked.
        people: All detections of the images in which somebody was searched.
    """

    report: str
    queries: list[MarkedQuery]
    people: list[Box]


def read_marks(paths: Sequence[str | os.PathLike], report: str | os.PathLike | None = None) -> list[Marks]:
    """Read files that reports saved; what several files say of one query is joined.

    Args:
        paths: JSON files.
        report: ``report.html`` that all of them must be of; None: they may be of any.

    Returns:
        One entry a report, in the order of the files.

    Raises:
        UserError: If a file cannot be read, is damaged, is of another report, or contradicts another one.
    """
    wanted = None if report is None else _report_id(Path(report))
    found: dict[str, Marks] = {}
    for path in paths:
        marks = _read(Path(path))
        if wanted is not None and marks.report != wanted:
            raise UserError(
                f'{path} has the marks of another report than {report}: give the report that it was saved from'
            )
        known = found.get(marks.report)
        found[marks.report] = marks if known is None else _join(known, marks, path)
    return list(found.values())


def precision_at_k(marks: Sequence[bool | None], topk: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Precision among the first k hits, of those that are marked.

    Args:
        marks: Of each hit, most similar first; None: not marked.
        topk: Values of k.

    Returns:
        (len(topk),) float64 right hits / marked hits among the first k, NaN where none is marked; (len(topk),) int64
        how many of them are marked.
    """
    right = np.cumsum([mark is True for mark in marks] or [0])
    marked = np.cumsum([mark is not None for mark in marks] or [0])
    last = np.minimum(topk, len(right)) - 1
    with np.errstate(invalid='ignore'):
        return right[last] / marked[last], marked[last]


def _report_id(path: Path) -> str:
    try:
        with open(path, encoding='utf-8', errors='replace') as file:
            match = re.search(r'<meta name="mmps-kd-report" content="(\w+)">', file.read(2000))
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror}') from None
    if match is None:
        raise UserError(f'{path} is no report of tools/search.py')
    return match[1]


def _read(path: Path) -> Marks:
    try:
        content = json.loads(path.read_bytes())
        if content['format'] != FORMAT:
            raise UserError(f'{path} has marks of another format than {FORMAT!r}')
        queries = [
            MarkedQuery(
                tuple(map(_box, query['query'])),
                tuple(map(_box, query['hits'])),
                tuple(_MARKS[hit['mark']] for hit in query['hits']),
            )
            for query in content['queries']
        ]
        marks = Marks(str(content['report']), queries, [_box(person) for person in content['people']])
        complete = all(query.query and len(set(query.hits)) == len(query.hits) for query in queries)
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror}') from None
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, RecursionError):
        complete = False
    if not complete:
        raise UserError(f'{path} is damaged, or no marks that a report saved: save them again')
    return marks


def _box(entry: dict) -> Box:
    x1, y1, x2, y2 = (float(side) for side in entry['box'])
    if not isinstance(entry['image'], str) or not (x1 < x2 and y1 < y2):
        raise ValueError
    return entry['image'], (x1, y1, x2, y2)


def _join(known: Marks, marks: Marks, path: str | os.PathLike) -> Marks:
    """Marks of the same report from two files."""
    queries = {query.query: query for query in known.queries}
    for query in marks.queries:
        before = queries.get(query.query, query)
        if before.hits != query.hits:
            raise UserError(f'{path} is damaged: its hits are not those that another file of the same report has')
        joined = []
        for (image, box), one, other in zip(query.hits, before.marks, query.marks, strict=True):
            if one is not None and other is not None and one != other:
                raise UserError(
                    f'{path} contradicts the marks before it: {image}, box {_show(box)} is right in one and wrong in '
                    'the other'
                )
            joined.append(other if one is None else one)
        queries[query.query] = MarkedQuery(query.query, query.hits, tuple(joined))
    return Marks(known.report, list(queries.values()), list(dict.fromkeys([*known.people, *marks.people])))


def _show(box: Sequence[float]) -> str:
    return ' '.join(f'{side:g}' for side in box)
