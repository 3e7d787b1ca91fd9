"""True positives of a chunk of queries, and where they stand in the rankings."""

from dataclasses import dataclass

import numpy as np

from mmps_kd.structures import SearchProtocol

from .gallery import Gallery
from .matching import Matches
from .similarity import SimilarityChunk


@dataclass(frozen=True, eq=False)
class Hits:
    """The true positive of each true box found: the most similar of the detections that match it.

    Ordered by row, then by similarity, ascending.

    Attributes:
        rows: (H,) int64, row of the chunk.
        truths: (H,) int64, index of the true box in the protocol.
        detections: (H,) int64, index in the gallery; the first of equally similar ones.
        similarities: (H,) float32.
    """

    rows: np.ndarray
    truths: np.ndarray
    detections: np.ndarray
    similarities: np.ndarray


def find_hits(chunk: SimilarityChunk, matches: Matches, gallery: Gallery) -> Hits:
    """Pick the true positives among the matches of the chunk's queries."""
    last = chunk.first_query + len(chunk.values)
    part = slice(*np.searchsorted(matches.queries, [chunk.first_query, last]))
    rows, truths, detections = matches.queries[part] - chunk.first_query, matches.truths[part], matches.detections[part]
    similarities = chunk.values[rows, chunk.columns(rows, detections, gallery)]
    best = np.lexsort((detections, -similarities, truths))
    best = best[np.unique(truths[best], return_index=True)[1]]
    best = best[np.lexsort((similarities[best], rows[best]))]
    return Hits(rows[best], truths[best], detections[best], similarities[best])


def count_above(
    chunk: SimilarityChunk, hits: Hits, gallery: Gallery, protocol: SearchProtocol
) -> tuple[np.ndarray, np.ndarray]:
    """Where the true positives stand in their rankings.

    Returns:
        - (H,) int64, boxes whose similarity is not below the true positive's, itself among them.
        - (H,) int64, its place in the ranking, from 1; equally similar boxes stand in the order of their images in
          the query's gallery as listed, and within an image in the order of the results.
    """
    count = _count_in_long_rows if chunk.pair_keys is None else _count_in_short_rows
    not_below, above = count(chunk, hits)
    places = above + 1
    for hit in np.flatnonzero(not_below > places):
        places[hit] += _tied_before(chunk, hits, hit, gallery, protocol)
    return not_below, places


def _count_in_short_rows(chunk: SimilarityChunk, hits: Hits) -> tuple[np.ndarray, np.ndarray]:
    """(H,) boxes not below, and above, each true positive: compared with every box of its row at once."""
    values, wanted = chunk.values[hits.rows], hits.similarities[:, None]
    return np.count_nonzero(values >= wanted, axis=1), np.count_nonzero(values > wanted, axis=1)


def _count_in_long_rows(chunk: SimilarityChunk, hits: Hits) -> tuple[np.ndarray, np.ndarray]:
    """The same where one row is all that should be looked at, and only its upper end be put in order."""
    not_below, above = np.empty((2, len(hits.rows)), dtype=np.int64)
    rows = np.unique(hits.rows)
    begins, ends = np.searchsorted(hits.rows, rows), np.searchsorted(hits.rows, rows, side='right')
    for row, begin, end in zip(rows.tolist(), begins.tolist(), ends.tolist(), strict=True):
        values, wanted = chunk.values[row], hits.similarities[begin:end]
        # Only what is not below the least similar true positive needs to be in order.
        upper = values[(values >= wanted[0]).nonzero()[0]]
        upper.sort()
        not_below[begin:end] = len(upper) - upper.searchsorted(wanted)
        above[begin:end] = len(upper) - upper.searchsorted(wanted, side='right')
    return not_below, above


def _tied_before(chunk: SimilarityChunk, hits: Hits, hit: int, gallery: Gallery, protocol: SearchProtocol) -> int:
    """Boxes exactly as similar as a true positive that stand before it."""
    row, detection = hits.rows[hit], hits.detections[hit]
    detections = chunk.detections(row, gallery)
    tied = detections[chunk.values[row, : len(detections)] == hits.similarities[hit]]
    query = chunk.first_query + row
    listed = protocol.entries[protocol.offsets[query] : protocol.offsets[query + 1]]
    order = np.zeros(gallery.num_images, dtype=np.int64)
    order[listed[::-1]] = np.arange(len(listed))[::-1]
    own, others = order[gallery.images[detection]], order[gallery.images[tied]]
    return int(((others < own) | ((others == own) & (tied < detection))).sum())
