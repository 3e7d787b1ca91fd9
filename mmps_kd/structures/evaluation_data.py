"""What search evaluation reads: protocols, ground truth and results, as flat NumPy arrays; offsets and overlaps."""

from dataclasses import dataclass
from typing import Any

import numpy as np


class _Immutable:
    """Copies of a frozen structure are the structure itself: its arrays are never written to."""

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict) -> Any:
        return self


@dataclass(frozen=True, eq=False)
class SearchProtocol(_Immutable):
    """For each query: its image, box and identity, and the gallery images with the true box where there is one.

    Q queries, G different gallery images, P (query, gallery image) entries as listed by the protocol,
    T of which hold the query's person. Boxes are x1, y1, x2, y2 in pixels of the original image.

    Attributes:
        query_images: (Q,) str, image that the query box lies in.
        query_boxes: (Q, 4) float64.
        query_pids: (Q,) int64, identity in the numbering of the annotation files.
        gallery_images: (G,) str, each name once.
        offsets: (Q + 1,) int64; query q's entries are ``entries[offsets[q]:offsets[q + 1]]``.
        entries: (P,) int32, indices into ``gallery_images`` in listed order; an image that a protocol lists
            twice for a query stands twice.
        truth_offsets: (Q + 1,) int64; query q's true boxes are ``truth_boxes[truth_offsets[q]:...]``.
        truth_images: (T,) int32, indices into ``gallery_images``; an image listed twice counts twice.
        truth_boxes: (T, 4) float64.
    """

    query_images: np.ndarray
    query_boxes: np.ndarray
    query_pids: np.ndarray
    gallery_images: np.ndarray
    offsets: np.ndarray
    entries: np.ndarray
    truth_offsets: np.ndarray
    truth_images: np.ndarray
    truth_boxes: np.ndarray

    @property
    def num_queries(self) -> int:
        """Number of queries Q."""
        return len(self.query_images)

    def of_query(self, query: int) -> 'SearchProtocol':
        """The protocol of one query, over the same gallery images."""
        entries, truths = (slice(*offsets[query : query + 2]) for offsets in (self.offsets, self.truth_offsets))
        return SearchProtocol(
            query_images=self.query_images[query : query + 1],
            query_boxes=self.query_boxes[query : query + 1],
            query_pids=self.query_pids[query : query + 1],
            gallery_images=self.gallery_images,
            offsets=np.array([0, entries.stop - entries.start]),
            entries=self.entries[entries],
            truth_offsets=np.array([0, truths.stop - truths.start]),
            truth_images=self.truth_images[truths],
            truth_boxes=self.truth_boxes[truths],
        )


@dataclass(frozen=True, eq=False)
class GroundTruth(_Immutable):
    """Every annotated person of the test images, for the detection figures.

    Attributes:
        image_names: (N,) str, each name once; images without a person are listed too.
        num_boxes: (N,) int64, boxes in each image.
        boxes: (M, 4) float64, x1, y1, x2, y2 in original pixels, images concatenated in order.
        labelled: (M,) bool, whether the person has an identity.
        ignored_images: (K,) int64, image of each region that is no single person (COCO's ``iscrowd``), as its position
            in ``image_names``, ascending; None where there is no such region.
        ignored_boxes: (K, 4) float64, these regions.
    """

    image_names: np.ndarray
    num_boxes: np.ndarray
    boxes: np.ndarray
    labelled: np.ndarray
    ignored_images: np.ndarray | None = None
    ignored_boxes: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class EvaluationSet(_Immutable):
    """What a test set is evaluated on; a dataset hands it to the metric as ``metainfo['evaluation']``.

    Attributes:
        protocols: one protocol a name; the first is the main one. All share the same queries in the same order.
        ground_truth: annotated people of the test images, None where the files at hand do not say.
        num_absent: listed queries that were left out because their person is nowhere in their gallery.
    """

    protocols: dict[str, SearchProtocol]
    ground_truth: GroundTruth | None = None
    num_absent: int = 0

    @property
    def main(self) -> SearchProtocol:
        """The main protocol."""
        return next(iter(self.protocols.values()))


@dataclass(frozen=True, eq=False)
class QueryContext(_Immutable):
    """The other people of each query's image, for context bipartite graph matching; the query is not among them.

    Attributes:
        num_people: (Q,) int64, people of each query's image, zero allowed.
        boxes: (C, 5) float, x1, y1, x2, y2, score in original pixels, queries concatenated in order.
        embeddings: (C, D) float32.
    """

    num_people: np.ndarray
    boxes: np.ndarray
    embeddings: np.ndarray


@dataclass(frozen=True, eq=False)
class SearchResults(_Immutable):
    """Detections and embeddings of a whole test set: the interchange format of ``eval_results.py``.

    Attributes:
        image_names: (N,) str, each gallery image at most once.
        num_dets: (N,) int64, detections in each image, zero allowed.
        boxes: (M, 5) float, x1, y1, x2, y2, score in original pixels, images concatenated in order.
        embeddings: (M, D) float32, used as given; similarity is the dot product.
        query_embeddings: (Q, D) float32, in the protocol's order of queries.
        query_images: (Q,) str, optional: the queries' images, to check their order.
        query_boxes: (Q, 4) float, optional: the queries' boxes, to check their order.
        query_context: optional: people beside the queries.
        score_thr: optional: score below which the model dropped detections; None if it is not known.
    """

    image_names: np.ndarray
    num_dets: np.ndarray
    boxes: np.ndarray
    embeddings: np.ndarray
    query_embeddings: np.ndarray
    query_images: np.ndarray | None = None
    query_boxes: np.ndarray | None = None
    query_context: QueryContext | None = None
    score_thr: float | None = None


@dataclass(frozen=True, eq=False)
class PairResults(_Immutable):
    """What a query-guided model found in each gallery image for each query.

    Attributes:
        query_ids: (P,) int64, positions in the protocol; each (query, image) pair once, in any order.
        image_names: (P,) str.
        num_dets: (P,) int64, detections of each pair, zero allowed.
        boxes: (M, 5) float, x1, y1, x2, y2, score in original pixels, pairs concatenated in order.
        similarities: (M,) float, of each detection to the pair's query; higher is more similar, and only
            their order counts.
        score_thr: optional: score below which the model dropped detections; None if it is not known.
    """

    query_ids: np.ndarray
    image_names: np.ndarray
    num_dets: np.ndarray
    boxes: np.ndarray
    similarities: np.ndarray
    score_thr: float | None = None


@dataclass(frozen=True, eq=False)
class SearchScores:
    """Figures of a search evaluation; shares are fractions in 0..1.

    Attributes:
        mAP: Mean of ``ap``.
        topk: For each k, the share of queries with a true positive among their k most similar boxes.
        ap: (Q,) float64, average precision of each query, scaled by its recall.
        recall: (Q,) float64, share of the query's true boxes that were found.
        first_hit: (Q,) int64, rank of the first true positive, from 1; 0 where none was found.
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


def run_offsets(counts: np.ndarray) -> np.ndarray:
    """Where each run begins and the last one ends.

    Args:
        counts: (N,) int, length of each run.

    Returns:
        (N + 1,) int64; run i is ``[offsets[i], offsets[i + 1])``.
    """
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def expand_runs(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Indices ``starts[i], starts[i] + 1, ...``, ``counts[i]`` of them, for every run i in order.

    Args:
        starts: (N,) int, first index of each run.
        counts: (N,) int, length of each run.

    Returns:
        (sum of counts,) int64.
    """
    offsets = run_offsets(counts)
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], counts)


def paired_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of the i-th box of ``a`` with the i-th box of ``b``.

    Args:
        a: (N, 4) float, x1, y1, x2, y2 in pixels.
        b: (N, 4) float.

    Returns:
        (N,) float64 in 0..1; 0 where both boxes are without area.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    intersection = intersection_areas(a, b)
    union = _area(a) + _area(b) - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def intersection_areas(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Area (N,) in pixels that the i-th boxes of ``a`` and ``b``, (N, 4) x1, y1, x2, y2 each, have in common."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    return sides.clip(min=0).prod(axis=1)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
