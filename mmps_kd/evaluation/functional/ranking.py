"""The ranking of one query, for pictures."""

from dataclasses import dataclass

import numpy as np

from mmps_kd.structures import SearchProtocol, SearchResults

from .gallery import Gallery, build_gallery
from .matching import find_matches


@dataclass(frozen=True, eq=False)
class RankedBoxes:
    """The boxes most similar to a query, most similar first.

    Attributes:
        image_names: (K,) str.
        boxes: (K, 4) float, x1, y1, x2, y2 in original pixels.
        scores: (K,) float, detection scores.
        similarities: (K,) float.
        is_match: (K,) bool, whether the box is a true positive.
        num_truths: True boxes in the query's gallery.
    """

    image_names: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    similarities: np.ndarray
    is_match: np.ndarray
    num_truths: int


def rank_gallery(
    results: SearchResults, protocol: SearchProtocol, query: int, *, score_thr: float = 0.5, topk: int = 10
) -> RankedBoxes:
    """Rank the boxes of a query's gallery; of equally similar ones, those of the image listed first come first.

    Args:
        results: Checked results (see :func:`check_results`).
        protocol: Queries and galleries.
        query: Index of the query.
        score_thr: Detections with a lower score are ignored.
        topk: Boxes to return, fewer if the gallery has fewer.
    """
    single = single_query(protocol, query)
    gallery = build_gallery(results, single, score_thr)
    return rank_boxes(gallery, gallery.embeddings @ results.query_embeddings[query].astype(np.float32), single, topk)


def rank_boxes(gallery: Gallery, similarities: np.ndarray, single: SearchProtocol, topk: int) -> RankedBoxes:
    """Rank detections by given similarities.

    Args:
        gallery: The N detections.
        similarities: (N,) float.
        single: Protocol of the one query (see :func:`single_query`).
        topk: Boxes to return.
    """
    is_match = np.zeros(len(similarities), dtype=bool)
    matches = find_matches(gallery, single)
    for truth in np.unique(matches.truths):
        overlapping = matches.detections[matches.truths == truth]
        is_match[overlapping[similarities[overlapping].argmax()]] = True
    order = np.argsort(-similarities, kind='stable')[:topk]
    return RankedBoxes(
        image_names=single.gallery_images[gallery.images[order]],
        boxes=gallery.boxes[order, :4],
        scores=gallery.boxes[order, 4],
        similarities=similarities[order],
        is_match=is_match[order],
        num_truths=len(single.truth_images),
    )


def single_query(protocol: SearchProtocol, query: int) -> SearchProtocol:
    """The protocol of one query; its gallery has the images listed for it, each once, in listed order."""
    listed = protocol.entries[protocol.offsets[query] : protocol.offsets[query + 1]]
    listed = listed[np.sort(np.unique(listed, return_index=True)[1])]
    new_index = np.zeros(len(protocol.gallery_images), dtype=np.int32)
    new_index[listed] = np.arange(len(listed))
    truths = slice(protocol.truth_offsets[query], protocol.truth_offsets[query + 1])
    return SearchProtocol(
        query_images=protocol.query_images[query : query + 1],
        query_boxes=protocol.query_boxes[query : query + 1],
        query_pids=protocol.query_pids[query : query + 1],
        gallery_images=protocol.gallery_images[listed],
        offsets=np.array([0, len(listed)]),
        entries=np.arange(len(listed), dtype=np.int32),
        truth_offsets=np.array([0, truths.stop - truths.start]),
        truth_images=new_index[protocol.truth_images[truths]],
        truth_boxes=protocol.truth_boxes[truths],
    )
