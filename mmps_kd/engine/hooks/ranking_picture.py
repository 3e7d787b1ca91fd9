"""The ranked strip of a query, from what the last evaluation found."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from mmps_kd.datasets.image_files import decode_scene
from mmps_kd.evaluation.functional import RankedBoxes, SearchProtocol
from mmps_kd.evaluation.metrics import BaseSearchMetric
from mmps_kd.visualization import MissedPicture, RankingPicture, draw_ranking

MAX_MISSED = 5


def picture_ranking(
    img_root: Path, protocol: SearchProtocol, query: int, metric: BaseSearchMetric, topk: int
) -> Image.Image:
    """Draw a query, the people most similar to it, and up to five of its true boxes that are not among them.

    Args:
        img_root: Where the images are.
        protocol: The main protocol.
        query: Position in it.
        metric: After evaluation.
        topk: People shown.
    """
    ranked = metric.rank(query, topk=sys.maxsize)
    missed = find_missed(ranked, protocol.of_query(query), topk)
    shown = zip(ranked.image_names, ranked.boxes, ranked.similarities, ranked.is_match, range(topk), strict=False)
    return draw_ranking(
        read_scene(img_root / protocol.query_images[query]),
        protocol.query_boxes[query],
        _title(protocol.query_images[query], query, ranked, missed, topk),
        [RankingPicture(read_scene(img_root / name), box, sim, match, name) for name, box, sim, match, _ in shown],
        [MissedPicture(read_scene(img_root / name), box, rank, name) for name, box, rank in missed[:MAX_MISSED]],
    )


def find_missed(ranked: RankedBoxes, single: SearchProtocol, topk: int) -> list[tuple[str, np.ndarray, int | None]]:
    """True boxes that are not among the most similar ones, those ranked best first.

    Args:
        ranked: The ranking of the whole gallery.
        single: Protocol of the one query.
        topk: How many of the ranking count.

    Returns:
        Image name, true box (4,) and rank, counted from 1, None if it was not detected. Of a true image that the
        protocol lists twice the first box alone.
    """
    rank_of = {ranked.image_names[index]: int(index) + 1 for index in np.flatnonzero(ranked.is_match)}
    names = single.gallery_images[single.truth_images]
    missed = [
        (str(names[index]), single.truth_boxes[index], rank_of.get(names[index]))
        for index in np.sort(np.unique(names, return_index=True)[1])
        if rank_of.get(names[index], sys.maxsize) > topk
    ]
    return sorted(missed, key=lambda entry: entry[2] or sys.maxsize)


def _title(image_name: str, query: int, ranked: RankedBoxes, missed: list[tuple], topk: int) -> str:
    undetected = [rank for _, _, rank in missed].count(None)
    further_down = len(missed) - undetected
    found, shown = ranked.is_match[:topk].sum(), min(topk, len(ranked.boxes))
    title = f'query {query} in {image_name}: {found} of {ranked.num_truths} found among the {shown} most similar'
    title += f', {further_down} further down' if further_down else ''
    return title + (f', {undetected} not detected' if undetected else '')


def read_scene(path: str | Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB, pixels as stored, as evaluation sees it."""
    return np.ascontiguousarray(decode_scene(path)[..., ::-1])
