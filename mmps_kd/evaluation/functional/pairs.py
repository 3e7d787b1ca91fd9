"""Search by pairs: models whose detections and similarities depend on the query."""

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mmps_kd.errors import UserError
from mmps_kd.structures import PairResults, SearchProtocol, run_offsets

from .checks import check_truths
from .pair_gallery import build_pair_gallery, listed_pairs, pairs_as_images
from .ranking import RankedBoxes, rank_boxes, single_query
from .search import CHUNK_SIZE, SearchScores, score_rankings
from .similarity import similarity_chunks


def evaluate_pairs(
    results: PairResults,
    protocol: SearchProtocol,
    *,
    score_thr: float = 0.5,
    topk: Sequence[int] = (1, 5, 10),
    chunk_size: int = CHUNK_SIZE,
) -> SearchScores:
    """Score a search by pairs under the rules of :func:`evaluate_search`.

    Each (query, image) pair is taken for an image that is listed for that query alone; with similarities as
    embeddings of one number, the rest is an ordinary search.

    Args:
        results: Detections of every pair that the protocol lists; other pairs are ignored.
        protocol: Queries, galleries and true boxes.
        score_thr: Detections with a lower score are ignored.
        topk: Values of k.
        chunk_size: See :func:`evaluate_search`.

    Raises:
        UserError: If a pair is missing or there twice, the arrays disagree, a number is not finite, a query has no
            true box in its gallery, or the model dropped detections above ``score_thr``.
    """
    _check_pairs(results)
    check_truths(protocol)
    pairs = listed_pairs(protocol)
    gallery = build_pair_gallery(results, protocol, pairs, score_thr)
    # The search compares in single precision, which holds the places in the order exactly.
    places = _order_within((pairs // len(protocol.gallery_images))[gallery.images], gallery.embeddings[:, 0])
    gallery = replace(gallery, embeddings=places[:, None].astype(np.float32))
    protocol = pairs_as_images(protocol, pairs)
    ones = np.ones((protocol.num_queries, 1), np.float32)
    return score_rankings(similarity_chunks(ones, gallery, protocol, chunk_size), gallery, protocol, topk)


def save_pairs(path: str | os.PathLike, results: PairResults) -> None:
    """Write results as npz, an array a field; ``PairResults(**numpy.load(path))`` reads them.

    Args:
        path: File to write; its folder must exist.
        results: What to write.
    """
    arrays = {key: value for key, value in vars(results).items() if value is not None}
    with open(path, 'wb') as file:
        np.savez(file, **arrays)


def rank_pairs(
    results: PairResults, protocol: SearchProtocol, query: int, *, score_thr: float = 0.5, topk: int = 10
) -> RankedBoxes:
    """Rank the boxes of a query's pairs, as :func:`rank_gallery` does."""
    single = single_query(protocol, query)
    own = replace(results, query_ids=np.where(results.query_ids == query, 0, -1))
    gallery = build_pair_gallery(own, single, listed_pairs(single), score_thr)
    return rank_boxes(gallery, gallery.embeddings[:, 0], single, topk)


def _order_within(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(N,) int64: 0 for the smallest value of a group, 1 for the next larger one, and so on; equal for equal ones."""
    order = np.lexsort((values, groups))
    groups, values = groups[order], values[order]
    steps = np.cumsum((np.diff(groups, prepend=-1) > 0) | (np.diff(values, prepend=0) > 0))
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = steps - steps[np.searchsorted(groups, groups)]
    return ranks


def _check_pairs(results: PairResults) -> None:
    pairs, detections = len(results.query_ids), len(results.boxes)
    if not pairs == len(results.image_names) == len(results.num_dets):
        raise UserError(
            f'{pairs} query_ids, {len(results.image_names)} image_names and {len(results.num_dets)} num_dets: '
            'give one of each a pair'
        )
    if not results.num_dets.sum() == detections == len(results.similarities):
        raise UserError(
            f'num_dets add up to {results.num_dets.sum()}, but there are {detections} boxes '
            f'and {len(results.similarities)} similarities'
        )
    for what, finite in (
        ('boxes', np.isfinite(results.boxes).all(axis=1)),
        ('similarities', np.isfinite(results.similarities)),
    ):
        if not finite.all():
            pair = np.searchsorted(run_offsets(results.num_dets), np.flatnonzero(~finite)[0], side='right') - 1
            name = results.image_names[pair]
            raise UserError(f"{what} of query {results.query_ids[pair]} in image '{name}' hold NaN or infinity")
