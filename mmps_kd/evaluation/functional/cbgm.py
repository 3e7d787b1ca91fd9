"""Context bipartite graph matching (SeqNet, AAAI 2021): people who walk together vouch for each other."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from mmps_kd.errors import UserError
from mmps_kd.structures import QueryContext, SearchProtocol, SearchResults, paired_iou, run_offsets

from .gallery import Gallery

SAME_PERSON_IOU = 0.5
"""A detection that overlaps the query's box more than this shows the query, not somebody beside it."""


@dataclass(frozen=True)
class CBGM:
    """Settings of context bipartite graph matching.

    Attributes:
        k1: The images of the k1 most similar boxes are re-ranked (CUHK-SYSU: 10, PRW: 30).
        k2: People of the query's image that take part, the query included (CUHK-SYSU: 3, PRW: 4).
        similarity: What the box matched to the query gets: the ``strongest`` single pair of the matching, as in
            SeqNet's published code, or the ``total`` weight of the matching.
    """

    k1: int = 10
    k2: int = 3
    similarity: str = 'strongest'

    def __post_init__(self) -> None:
        if self.k1 < 1 or self.k2 < 1:
            raise UserError(f'CBGM needs k1 and k2 of at least 1, got k1={self.k1}, k2={self.k2}')
        if self.similarity not in ('strongest', 'total'):
            raise UserError(f"CBGM similarity must be 'strongest' or 'total', got '{self.similarity}'")


def query_context(results: SearchResults, protocol: SearchProtocol, score_thr: float) -> QueryContext:
    """The people beside each query: those stored with the results, otherwise the detections in the query's image.

    Raises:
        UserError: If the results hold neither, naming the query's image.
    """
    if results.query_context is not None:
        return results.query_context
    position = {name: index for index, name in enumerate(results.image_names.tolist())}
    offsets = run_offsets(results.num_dets)
    rows = []
    for name, box in zip(protocol.query_images.tolist(), protocol.query_boxes, strict=True):
        if name not in position:
            raise UserError(f"CBGM needs the people of query image '{name}': list the image, or store query_context_*")
        dets = np.arange(offsets[position[name]], offsets[position[name] + 1])
        overlap = paired_iou(results.boxes[dets, :4], np.broadcast_to(box, (len(dets), 4)))
        rows.append(dets[(results.boxes[dets, 4] >= score_thr) & (overlap <= SAME_PERSON_IOU)])
    picked = np.concatenate(rows)
    return QueryContext(np.array([len(r) for r in rows]), results.boxes[picked], results.embeddings[picked])


def rerank(
    similarities: np.ndarray,
    first_query: int,
    query_embeddings: np.ndarray,
    gallery: Gallery,
    context: QueryContext,
    cbgm: CBGM,
) -> None:
    """Replace, in place, the similarities of the boxes matched to the queries.

    Args:
        similarities: (R, N) float32 of queries ``first_query``, ...; one column a detection, -inf if not listed.
        first_query: Query of row 0.
        query_embeddings: (Q, D) float32.
        gallery: The N detections.
        context: People beside each query; the k2 - 1 most confident take part.
        cbgm: Settings.
    """
    offsets = run_offsets(context.num_people)
    for query, row in enumerate(similarities, start=first_query):
        people = slice(offsets[query], offsets[query + 1])
        confident = np.argsort(-context.boxes[people, 4], kind='stable')[: cbgm.k2 - 1]
        group = np.vstack([query_embeddings[query], context.embeddings[people][confident]])
        for image in np.unique(gallery.images[_most_similar(row, cbgm.k1)]):
            columns = slice(gallery.starts[image], gallery.starts[image + 1])
            weights = group @ gallery.embeddings[columns].T
            # The query's own pairs keep the similarities that they were ranked by.
            weights[0] = row[columns]
            _match_group(row[columns], weights, cbgm.similarity)


def _most_similar(row: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k largest similarities, all of those equal to the k-th among them, unlisted boxes left out."""
    least = np.partition(row, -k)[-k] if len(row) > k else -np.inf
    return np.flatnonzero((row >= least) & (row > -np.inf))


def _match_group(similarities: np.ndarray, weights: np.ndarray, rule: str) -> None:
    """Match the query's group with an image's people; the query's match gets the strongest pair's weight or the sum."""
    people, matched = linear_sum_assignment(weights, maximize=True)
    pairs = weights[people, matched]
    similarities[matched[people == 0]] = pairs.sum() if rule == 'total' else pairs.max()
