"""Search mAP and top-k."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mmps_kd.structures import QueryContext, SearchProtocol, SearchResults, run_offsets

from .cbgm import CBGM, query_context, rerank
from .checks import check_against_protocol, check_structure
from .gallery import Gallery, build_gallery
from .hits import count_above, find_hits
from .matching import find_matches
from .similarity import SimilarityChunk, similarity_chunks

CHUNK_SIZE = 2**24


@dataclass(frozen=True, eq=False)
class SearchScores:
    """Figures of a search evaluation; shares are fractions in 0..1.

    Attributes:
        mAP: Mean of ``ap``.
        topk: For each k, the share of queries with a true positive among their k most similar boxes.
        ap: (Q,) float64, average precision of each query, scaled by its recall.
        recall: (Q,) float64, share of the query's true boxes that were found.
        first_hit: (Q,) int64, place of the first true positive in the ranking, from 1; 0 where none was found.
        hit_precision: (H,) float64, precision at each true positive, queries one after another, most similar first.
        hit_offsets: (Q + 1,) int64; query q's are ``hit_precision[hit_offsets[q]:hit_offsets[q + 1]]``.
        num_truths: (Q,) int64, true boxes in the query's gallery.
    """

    mAP: float  # noqa: N815  the field's spelling
    topk: dict[int, float]
    ap: np.ndarray
    recall: np.ndarray
    first_hit: np.ndarray
    hit_precision: np.ndarray
    hit_offsets: np.ndarray
    num_truths: np.ndarray

    @property
    def num_queries(self) -> int:
        """Number of queries Q."""
        return len(self.ap)


def evaluate_search(
    results: SearchResults,
    protocol: SearchProtocol,
    *,
    score_thr: float = 0.5,
    topk: Sequence[int] = (1, 5, 10),
    cbgm: CBGM | None = None,
    weight_by_score: bool = False,
    chunk_size: int = CHUNK_SIZE,
) -> SearchScores:
    """Score a search as the field does (rules, sources and tie rule: docs/evaluation.md).

    In each image that holds the searched person, the most similar of the boxes that overlap the true box enough is
    the true positive; every other box of the gallery is a negative.

    Args:
        results: Detections and embeddings; every gallery image must be listed.
        protocol: Queries, galleries and true boxes.
        score_thr: Detections with a lower score are ignored.
        topk: Values of k.
        cbgm: Re-rank by context bipartite graph matching.
        weight_by_score: Multiply each similarity by the detection's score.
        chunk_size: Similarities held in memory at a time, 4 bytes each and about five times that while working.

    Raises:
        UserError: If the results do not fit the protocol, a query has no true box in its gallery, or the model
            dropped detections above ``score_thr``.
    """
    check_structure(results)
    check_against_protocol(results, protocol)
    gallery = build_gallery(results, protocol, score_thr, weight_by_score)
    context = None if cbgm is None else query_context(results, protocol, score_thr)
    queries = results.query_embeddings.astype(np.float32, copy=False)
    chunks = similarity_chunks(queries, gallery, protocol, chunk_size, dense=cbgm is not None)
    if cbgm is not None:
        chunks = _reranked(chunks, queries, gallery, context, cbgm)
    return score_rankings(chunks, gallery, protocol, topk)


def _reranked(
    chunks: Iterable[SimilarityChunk], queries: np.ndarray, gallery: Gallery, context: QueryContext, cbgm: CBGM
) -> Iterator[SimilarityChunk]:
    for chunk in chunks:
        rerank(chunk.values, chunk.first_query, queries, gallery, context, cbgm)
        yield chunk


def score_rankings(
    chunks: Iterable[SimilarityChunk], gallery: Gallery, protocol: SearchProtocol, topk: Sequence[int]
) -> SearchScores:
    """Figures of the rankings that similarities give.

    Args:
        chunks: Similarities of all queries to the gallery's detections.
        gallery: Detections.
        protocol: Says which are true.
        topk: Values of k.
    """
    matches = find_matches(gallery, protocol)
    counts = np.zeros((2, len(protocol.truth_images)), dtype=np.int64)
    for chunk in chunks:
        hits = find_hits(chunk, matches, gallery)
        counts[:, hits.truths] = count_above(chunk, hits, gallery, protocol)
    return _summarise(*counts, np.diff(protocol.truth_offsets), topk)


def _summarise(not_below: np.ndarray, places: np.ndarray, num_truths: np.ndarray, topk: Sequence[int]) -> SearchScores:
    """Figures from what :func:`count_above` says of each true box, 0 for those not found.

    Precision at a true positive = (true positives not below it) / (boxes not below it), as in a tie-aware average
    precision; AP x recall = sum of the precisions / number of true boxes.
    """
    found = not_below > 0
    queries = np.repeat(np.arange(len(num_truths)), num_truths)[found]
    order = np.lexsort((not_below[found], queries))
    queries, not_below, places = queries[order], not_below[found][order], places[found][order]
    num_hits = np.bincount(queries, minlength=len(num_truths))
    offsets = run_offsets(num_hits)
    keys = queries * (not_below.max(initial=0) + 1) + not_below
    precision = (np.searchsorted(keys, keys, side='right') - offsets[queries]) / not_below
    ap = np.bincount(queries, precision, minlength=len(num_truths)) / num_truths
    first_hit = np.zeros(len(num_truths), dtype=np.int64)
    if len(places):
        first_hit[num_hits > 0] = np.minimum.reduceat(places, offsets[:-1][num_hits > 0])
    return SearchScores(
        mAP=float(ap.mean()),
        topk={k: float(((first_hit > 0) & (first_hit <= k)).mean()) for k in topk},
        ap=ap,
        recall=num_hits / num_truths,
        first_hit=first_hit,
        hit_precision=precision,
        hit_offsets=offsets,
        num_truths=num_truths,
    )
