"""Context bipartite graph matching (Li and Miao, AAAI 2021): people who are seen together identify each other."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from mmps_kd.errors import UserError
from mmps_kd.structures import SearchProtocol, SearchResults, paired_iou, run_offsets


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


def rerank_rows(
    rows: Iterable[tuple], gallery: Any, results: SearchResults, protocol: SearchProtocol, score_thr: float, cbgm: CBGM
) -> Iterator[tuple]:
    """Replace the similarities of the boxes that are matched to each query; ``rows`` are its :func:`gallery_rows`.

    The people beside a query are stored with the results, or else the detections in the query's image are taken.

    Raises:
        UserError: If neither are there, naming the query's image.
    """
    context = results.query_context or results
    offsets = run_offsets(results.num_dets if results.query_context is None else context.num_people)
    position = {name: index for index, name in enumerate(results.image_names.tolist())}
    for query, (similarities, detections, candidates) in enumerate(rows):
        name = str(protocol.query_images[query])
        if results.query_context is not None:
            others = np.arange(*offsets[query : query + 2])
        elif name in position:
            others = np.arange(*offsets[position[name] : position[name] + 2])
            own = np.broadcast_to(protocol.query_boxes[query], (len(others), 4))
            # A detection that overlaps the query's box more shows the query, not somebody beside it.
            beside = paired_iou(context.boxes[others, :4], own) <= 0.5
            others = others[beside & (context.boxes[others, 4] >= score_thr)]
        else:
            raise UserError(f"CBGM needs the people of query image '{name}': list the image, or store query_context_*")
        others = others[np.argsort(-context.boxes[others, 4], kind='stable')[: cbgm.k2 - 1]]
        group = np.vstack([results.query_embeddings[query], context.embeddings[others]])  # (at most k2, D)
        images = gallery.images[detections]
        # All boxes that are as similar as the k1-th take part.
        least = np.partition(similarities, -cbgm.k1)[-cbgm.k1] if len(similarities) > cbgm.k1 else -np.inf
        for image in np.unique(images[similarities >= least]):
            boxes = np.flatnonzero(images == image)
            weights = group @ gallery.features[detections[boxes]].T  # (group, boxes)
            weights[0] = similarities[boxes]  # the query's own pairs keep the similarities that they were ranked by
            people, matched = linear_sum_assignment(weights, maximize=True)
            pairs = weights[people, matched]
            # SeqNet's code takes the strongest pair; its sum of all pairs, the paper's, is commented out there.
            similarities[boxes[matched[people == 0]]] = pairs.sum() if cbgm.similarity == 'total' else pairs.max()
        yield similarities, detections, candidates
