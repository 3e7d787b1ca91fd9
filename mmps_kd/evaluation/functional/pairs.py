"""Search by pairs: models whose detections and similarities depend on the query, such as QEEPS."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mmps_kd.errors import UserError
from mmps_kd.structures import PairResults, RankedBoxes, SearchProtocol, SearchScores, expand_runs, run_offsets

from .results_file import check_pairs, check_score_thr, check_truths
from .search import CHUNK_SIZE, Gallery, gallery_rows, rank_row, score_rows


def evaluate_pairs(
    results: PairResults,
    protocol: SearchProtocol,
    *,
    score_thr: float = 0.5,
    topk: Sequence[int] = (1, 5, 10),
    chunk_size: int = CHUNK_SIZE,
) -> SearchScores:
    """Score a search by pairs under the rules of :func:`evaluate_search`; pairs that are not listed are ignored.

    Raises:
        UserError: If a pair is missing or there twice, the arrays disagree, a number is not finite, a query has no
            true box in its gallery, or the model dropped detections above ``score_thr``.
    """
    check_pairs(results)
    check_truths(protocol)
    gallery = build_pair_gallery(results, protocol, score_thr)
    return score_rows(gallery_rows(gallery, protocol, chunk_size=chunk_size), protocol, topk)


def rank_pairs(
    results: PairResults, protocol: SearchProtocol, query: int, *, score_thr: float = 0.5, topk: int = 10
) -> RankedBoxes:
    """Rank the boxes of a query's pairs, as :func:`rank_gallery` does."""
    single = protocol.of_query(query)
    own = replace(results, query_ids=np.where(results.query_ids == query, 0, -1))
    gallery = build_pair_gallery(own, single, score_thr)
    return rank_row(*gallery_rows(gallery, single), gallery, single, topk)


def build_pair_gallery(results: PairResults, protocol: SearchProtocol, score_thr: float) -> Gallery:
    """Arrange the detections with score >= ``score_thr`` by pair of query and image.

    Raises:
        UserError: If a pair that the protocol lists is missing or there twice, or the model dropped detections above
            ``score_thr``.
    """
    check_score_thr(results.score_thr, score_thr)
    num_images = len(protocol.gallery_images)

    def keys_of(offsets: np.ndarray, images: np.ndarray) -> np.ndarray:
        return np.repeat(np.arange(protocol.num_queries), np.diff(offsets)) * num_images + images

    def describe(key: int) -> str:
        name, image = protocol.query_images[key // num_images], protocol.gallery_images[key % num_images]
        return f"the pair of query {key // num_images} ('{name}') and image '{image}'"

    entries = keys_of(protocol.offsets, protocol.entries)
    pairs = np.unique(entries)
    # Where the results have each pair.
    index = {name: image for image, name in enumerate(protocol.gallery_images.tolist())}
    images = np.array([index.get(name, -1) for name in results.image_names.tolist()], dtype=np.int64)
    known = np.flatnonzero((images >= 0) & (results.query_ids >= 0))
    keys = results.query_ids[known] * num_images + images[known]
    order = np.argsort(keys, kind='stable')
    keys, known = keys[order], known[order]
    twice, missing = keys[1:][np.diff(keys) == 0], pairs[~np.isin(pairs, keys)]
    if len(twice):
        raise UserError(f'results hold {describe(twice[0])} twice: list each pair once')
    if len(missing):
        raise UserError(
            f'results lack {describe(missing[0])}, {len(missing)} of {len(pairs)} pairs in all: '
            'a pair without detections is listed with num_dets 0'
        )
    where = known[np.searchsorted(keys, pairs)]
    counts = results.num_dets[where]
    rows, owners = expand_runs(run_offsets(results.num_dets)[where], counts), np.repeat(np.arange(len(where)), counts)
    kept = results.boxes[rows, 4] >= score_thr
    rows, owners = rows[kept], owners[kept]
    return Gallery(
        starts=run_offsets(np.bincount(owners, minlength=len(pairs))),
        images=pairs[owners] % num_images,
        boxes=results.boxes[rows],
        features=results.similarities[rows],
        entry_blocks=np.searchsorted(pairs, entries),
        truth_blocks=np.searchsorted(pairs, keys_of(protocol.truth_offsets, protocol.truth_images)),
    )
