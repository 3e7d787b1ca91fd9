"""Search evaluation: true positives, ranks, average precision and top-k.

The rule is that of Xiao et al. (CVPR 2017) as the SeqNet family keeps it
(https://github.com/serend1p1ty/SeqNet/blob/master/eval_func.py); where codebases differ: docs/evaluation.md.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mmps_kd.errors import UserError
from mmps_kd.structures import RankedBoxes, SearchProtocol, SearchResults, SearchScores
from mmps_kd.structures.evaluation_data import expand_runs, paired_iou, run_offsets

from .cbgm import CBGM, rerank_rows
from .reranking import k_reciprocal_distances
from .results_file import check_against_protocol, check_score_thr, check_structure

CHUNK_SIZE = 2**23


@dataclass(frozen=True, eq=False)
class Gallery:
    """Detections in blocks: those of a gallery image or, where they depend on the query, of a (query, image) pair.

    Attributes:
        starts: (B + 1,) int64; the detections of block b are ``[starts[b], starts[b + 1])``.
        images: (N,) int64, gallery image of each detection.
        boxes: (N, 5) float, x1, y1, x2, y2, score.
        features: (N, D) float32 embeddings, or (N,) similarities where they depend on the query.
        entry_blocks: (P,) int, block of each entry of the protocol.
        truth_blocks: (T,) int, block of each true box.
    """

    starts: np.ndarray
    images: np.ndarray
    boxes: np.ndarray
    features: np.ndarray
    entry_blocks: np.ndarray
    truth_blocks: np.ndarray


def find_true_positives(similarities: np.ndarray, candidates: Sequence[np.ndarray]) -> list[int]:
    """Match: of the boxes that overlap a true box enough, the (first) most similar one is its true positive.

    Every other box of the gallery is a negative.

    Args:
        similarities: (n,) float, of the query to the boxes of its gallery: images as listed, boxes as detected.
        candidates: For each true box that was detected, the positions (c,) of the boxes that overlap it enough.
    """
    return [int(boxes[similarities[boxes].argmax()]) for boxes in candidates]


def most_similar(similarities: np.ndarray, topk: int) -> np.ndarray:
    """Rank: positions (K,) of the ``topk`` largest similarities (n,), largest first, of equal ones the first."""
    positions = np.arange(len(similarities))
    if topk < len(similarities):
        positions = np.flatnonzero(similarities >= np.partition(similarities, -topk)[-topk])
    return positions[np.argsort(-similarities[positions], kind='stable')[:topk]]


def score_query(similarities: np.ndarray, hits: Sequence[int]) -> tuple[np.ndarray, int]:
    """Score the ranking of one query by counting, which needs no sorting.

    Args:
        similarities: (n,) float, see :func:`find_true_positives`.
        hits: Positions of the H true positives.

    Returns:
        (H,) precision at each true positive, most similar first; rank of the first one, from 1, in the order of
        :func:`most_similar`, 0 if there is none.
    """
    if not hits:
        return np.zeros(0), 0
    # Equally similar boxes share one precision, as in scikit-learn's average precision, which the field's code calls.
    boxes = np.sort([np.count_nonzero(similarities >= similarities[hit]) for hit in hits])
    precision = np.searchsorted(boxes, boxes, side='right') / boxes
    first = max(hits, key=lambda hit: (similarities[hit], -hit))
    tied_before = np.count_nonzero(similarities[:first] == similarities[first])
    return precision, 1 + np.count_nonzero(similarities > similarities[first]) + tied_before


def evaluate_search(
    results: SearchResults,
    protocol: SearchProtocol,
    *,
    score_thr: float = 0.5,
    topk: Sequence[int] = (1, 5, 10),
    cbgm: CBGM | None = None,
    weight_by_score: bool = False,
    rerank: int | None = None,
    chunk_size: int = CHUNK_SIZE,
) -> SearchScores:
    """Score a search as the field does (rules, sources and tie rule: docs/evaluation.md).

    Args:
        results: Detections and embeddings; every gallery image must be listed.
        protocol: Queries, galleries and true boxes.
        score_thr: Detections with a lower score are ignored.
        topk: Values of k.
        cbgm: Re-rank by context bipartite graph matching.
        weight_by_score: Multiply each similarity by the detection's score.
        rerank: Re-rank so many of the most similar boxes of each query by :func:`k_reciprocal_distances`; None: none.
        chunk_size: Similarities held in memory at a time, 4 bytes each and about six times that while working.

    Raises:
        UserError: If the results do not fit the protocol, a query has no true box in its gallery, the model dropped
            detections above ``score_thr``, or ``rerank`` is below 1 or given with another option of the ranking.
    """
    if rerank is not None and (rerank < 1 or cbgm is not None or weight_by_score):
        raise UserError(f'rerank={rerank}: give at least 1, and neither cbgm nor weight_by_score with it')
    check_structure(results)
    check_against_protocol(results, protocol)
    gallery = build_gallery(results, protocol, score_thr, weight_by_score)
    rows = gallery_rows(gallery, protocol, results.query_embeddings, chunk_size)
    if cbgm is not None:
        rows = rerank_rows(rows, gallery, results, protocol, score_thr, cbgm)
    if rerank is not None:
        rows = k_reciprocal_rows(rows, gallery, results.query_embeddings, rerank)
    return score_rows(rows, protocol, topk)


def k_reciprocal_rows(
    rows: Iterable[tuple], gallery: Gallery, query_embeddings: np.ndarray, num_reranked: int
) -> Iterator[tuple]:
    """Put the ``num_reranked`` most similar boxes of each query in the order of their k-reciprocal distances.

    The similarities of these boxes become values above those of all others; ``rows`` are :func:`gallery_rows`.
    """
    for query, (similarities, detections, candidates) in zip(query_embeddings, rows, strict=True):
        first = most_similar(similarities, num_reranked)
        reranked = similarities.astype(np.float64)
        distances = k_reciprocal_distances(query, gallery.features[detections[first]])  # 0..1
        reranked[first] = similarities.max(initial=0) + 2 - distances
        yield reranked, detections, candidates


def score_rows(rows: Iterable[tuple], protocol: SearchProtocol, topk: Sequence[int]) -> SearchScores:
    """Score all queries, from their :func:`gallery_rows`."""
    num_truths = np.diff(protocol.truth_offsets)
    scores = [score_query(row, find_true_positives(row, candidates)) for row, _, candidates in rows]
    precisions, first_hit = zip(*scores, strict=True)
    first_hit, num_hits = np.array(first_hit), np.array([len(precision) for precision in precisions])
    # Average precision x recall: a true box that was not detected adds a precision of 0.
    ap = np.array([precision.sum() for precision in precisions]) / num_truths
    return SearchScores(
        mAP=float(ap.mean()),
        topk={k: float(((first_hit > 0) & (first_hit <= k)).mean()) for k in topk},
        ap=ap,
        recall=num_hits / num_truths,
        first_hit=first_hit,
        hit_precision=np.concatenate(precisions),
        hit_offsets=run_offsets(num_hits),
        num_truths=num_truths,
    )


def rank_gallery(
    results: SearchResults, protocol: SearchProtocol, query: int, *, score_thr: float = 0.5, topk: int = 10
) -> RankedBoxes:
    """Rank the ``topk`` boxes most similar to a query; arguments as for :func:`evaluate_search`.

    Of equally similar ones those of the image listed first come first.
    """
    single = protocol.of_query(query)
    gallery = build_gallery(results, single, score_thr)
    return rank_row(*gallery_rows(gallery, single, results.query_embeddings[[query]]), gallery, single, topk)


def rank_row(row: tuple, gallery: Gallery, single: SearchProtocol, topk: int) -> RankedBoxes:
    """Rank the detections of a single query, from its :func:`gallery_rows`."""
    similarities, detections, candidates = row
    order = most_similar(similarities, topk)
    boxes = gallery.boxes[detections[order]]
    return RankedBoxes(
        image_names=single.gallery_images[gallery.images[detections[order]]],
        boxes=boxes[:, :4],
        scores=boxes[:, 4],
        similarities=similarities[order],
        is_match=np.isin(order, find_true_positives(similarities, candidates)),
        num_truths=len(single.truth_images),
    )


def build_gallery(
    results: SearchResults, protocol: SearchProtocol, score_thr: float, weight_by_score: bool = False
) -> Gallery:
    """Arrange the detections with score >= ``score_thr`` by gallery image; arguments as for :func:`evaluate_search`."""
    check_score_thr(results.score_thr, score_thr)
    position = {name: index for index, name in enumerate(results.image_names.tolist())}
    where = np.array([position[name] for name in protocol.gallery_images.tolist()], dtype=np.int64)
    counts = results.num_dets[where]
    rows, images = expand_runs(run_offsets(results.num_dets)[where], counts), np.repeat(np.arange(len(where)), counts)
    kept = results.boxes[rows, 4] >= score_thr
    rows, images = rows[kept], images[kept]
    boxes, embeddings = results.boxes[rows], results.embeddings[rows].astype(np.float32, copy=False)
    if weight_by_score:
        embeddings = embeddings * boxes[:, 4:].astype(np.float32)
    starts = run_offsets(np.bincount(images, minlength=len(where)))
    return Gallery(starts, images, boxes, embeddings, protocol.entries, protocol.truth_images)


def find_candidates(gallery: Gallery, protocol: SearchProtocol) -> tuple[np.ndarray, np.ndarray]:
    """Pair each true box with the detections of its block whose IoU is at least ``min(0.5, wh / ((w + 10)(h + 10)))``.

    Where a protocol lists an image twice for a query, only the first of its true boxes can be found, as in the SeqNet
    family's code; the second still counts among the true boxes.

    Returns:
        Index of the true box in the protocol, ascending, and of the detection in the gallery; (C,) int64 each.
    """
    queries = np.repeat(np.arange(len(protocol.query_images)), np.diff(protocol.truth_offsets))
    keys = queries * len(protocol.gallery_images) + protocol.truth_images
    truths = np.sort(np.unique(keys, return_index=True)[1])
    blocks = gallery.truth_blocks[truths]
    counts = np.diff(gallery.starts)[blocks]
    truths, detections = np.repeat(truths, counts), expand_runs(gallery.starts[blocks], counts)
    boxes = protocol.truth_boxes[truths]
    # Below about 24 pixels a side, five pixels off on every side cost more than half of the overlap: less is asked for.
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    iou_thr = np.minimum(0.5, width * height / ((width + 10) * (height + 10)))
    passed = paired_iou(gallery.boxes[detections, :4], boxes) >= iou_thr
    return truths[passed], detections[passed]


def gallery_rows(
    gallery: Gallery, protocol: SearchProtocol, query_embeddings: np.ndarray | None = None, chunk_size: int = CHUNK_SIZE
) -> Iterator[tuple[np.ndarray, np.ndarray, list[np.ndarray]]]:
    """Compare each query with the detections of its gallery: images as listed, each once, detections as given.

    Equal embeddings get equal similarities, to the last bit: a matrix product alone may round them differently.

    Args:
        gallery: Detections.
        protocol: Galleries and true boxes.
        query_embeddings: (Q, D) float; None if the gallery holds the similarities.
        chunk_size: See :func:`evaluate_search`.

    Yields:
        (n,) float similarities, (n,) int64 detections, and for each true box that was detected the positions among
        these n of the detections that overlap it enough.
    """
    num_queries, num_images, num_dets = protocol.num_queries, len(protocol.gallery_images), np.diff(gallery.starts)
    truths, candidates = find_candidates(gallery, protocol)
    owners = np.repeat(np.arange(num_queries), np.diff(protocol.truth_offsets))[truths]
    if query_embeddings is not None:
        queries = query_embeddings.astype(np.float32, copy=False)
        ids: dict[bytes, int] = {}
        id_of = np.array([ids.setdefault(row.tobytes(), len(ids)) for row in gallery.features], dtype=np.int64)
        unique = gallery.features[np.unique(id_of, return_index=True)[1]]
        # From a tenth of all pairs on, one full product is faster than those of the listed pairs.
        few = len(unique) == len(id_of) and 10 * len(protocol.entries) <= num_queries * num_images
    step = max(1, chunk_size // max(num_dets[gallery.entry_blocks].sum() // num_queries, num_images // 4))
    for begin in range(0, num_queries, step):
        # Lay out the detections of the chunk: query after query, image after image.
        end = min(begin + step, num_queries)
        offsets = protocol.offsets[begin : end + 1] - protocol.offsets[begin]
        chunk = slice(protocol.offsets[begin], protocol.offsets[end])
        images, blocks, rows = protocol.entries[chunk], gallery.entry_blocks[chunk], np.arange(end - begin)
        pairs, entries = np.repeat(rows, np.diff(offsets)) * num_images + images, np.arange(len(images), dtype=np.int32)
        first_entry = np.empty(len(rows) * num_images, dtype=np.int32)  # of each listed pair of row and image
        first_entry[pairs[::-1]] = entries[::-1]
        counts = num_dets[blocks] * (first_entry[pairs] == entries)
        starts = run_offsets(counts)
        detections, bounds = expand_runs(gallery.starts[blocks], counts), starts[offsets]
        spans = [slice(*span) for span in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)]
        if query_embeddings is None:
            similarities = gallery.features[detections]
        elif few:
            similarities = listed_products(queries[begin:end], gallery, images, pairs // num_images, counts)
        else:
            products = zip(queries[begin:end] @ unique.T, spans, strict=True)
            similarities = np.concatenate([row[id_of[detections[span]]] for row, span in products])
        # Where the candidates stand in their rows, split by true box, and the true boxes of each row.
        part = slice(*np.searchsorted(owners, [begin, end]))
        row_of, truth_of = owners[part] - begin, truths[part]
        entry_of = first_entry[row_of * num_images + protocol.truth_images[truth_of]]
        within = candidates[part] - gallery.starts[gallery.truth_blocks[truth_of]]
        positions = starts[entry_of] + within - bounds[row_of]
        cuts = np.flatnonzero(np.diff(truth_of, prepend=-1))
        by_truth = np.split(positions, cuts[1:])
        lasts = np.searchsorted(row_of[cuts], rows, side='right').tolist()
        for span, first, last in zip(spans, [0, *lasts[:-1]], lasts, strict=True):
            yield similarities[span], detections[span], by_truth[first:last]


def listed_products(
    queries: np.ndarray, gallery: Gallery, images: np.ndarray, rows: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Similarities of ``queries[rows]`` to the detections of ``images`` where ``counts`` is not 0, image by image."""
    # NumPy sorts 16-bit integers stably by counting, several times as fast as wider ones.
    order = np.argsort(images.astype(np.uint16) if len(gallery.starts) <= 2**16 else images, kind='stable')
    order = order[counts[order] > 0]
    rows, images, starts = rows[order], images[order], gallery.starts.tolist()
    cuts = [*np.flatnonzero(np.diff(images, prepend=-1)).tolist(), len(order)]
    products, begin = np.empty(counts.sum(), dtype=np.float32), 0
    for first, last in pairwise(cuts):
        block = gallery.features[starts[images[first]] : starts[images[first] + 1]]
        end = begin + (last - first) * len(block)
        np.dot(queries.take(rows[first:last], axis=0), block.T, out=products[begin:end].reshape(last - first, -1))
        begin = end
    similarities = np.empty_like(products)
    similarities[expand_runs(run_offsets(counts)[order], counts[order])] = products
    return similarities
