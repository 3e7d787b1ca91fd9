"""The detections that a search looks through, arranged in the order of a protocol's gallery images."""

from dataclasses import dataclass

import numpy as np

from mmps_kd.structures import SearchProtocol, SearchResults, expand_runs, run_offsets

from .checks import check_score_thr


@dataclass(frozen=True, eq=False)
class Gallery:
    """Detections with score >= threshold; those of gallery image g are ``[starts[g], starts[g + 1])``.

    Attributes:
        starts: (G + 1,) int64.
        counts: (G,) int64, detections in each image.
        images: (N,) int64, gallery image of each detection.
        boxes: (N, 5) float, x1, y1, x2, y2, score.
        embeddings: (N, D) float32.
    """

    starts: np.ndarray
    counts: np.ndarray
    images: np.ndarray
    boxes: np.ndarray
    embeddings: np.ndarray

    @property
    def num_images(self) -> int:
        """Number of gallery images G."""
        return len(self.counts)


def build_gallery(
    results: SearchResults, protocol: SearchProtocol, score_thr: float, weight_by_score: bool = False
) -> Gallery:
    """Arrange the detections with score >= ``score_thr`` by gallery image.

    Args:
        results: Checked results (see :func:`check_results`).
        protocol: Names the gallery images.
        score_thr: In the units of the results' scores.
        weight_by_score: Multiply each embedding by its detection's score: confidence-weighted similarity (SeqNet).

    Raises:
        UserError: If the model dropped detections above ``score_thr``.
    """
    check_score_thr(results.score_thr, score_thr)
    position = {name: index for index, name in enumerate(results.image_names.tolist())}
    where = np.array([position[name] for name in protocol.gallery_images.tolist()], dtype=np.int64)
    rows = expand_runs(run_offsets(results.num_dets)[where], results.num_dets[where])
    images = np.repeat(np.arange(len(where)), results.num_dets[where])
    kept = results.boxes[rows, 4] >= score_thr
    rows, images = rows[kept], images[kept]
    boxes, embeddings = results.boxes[rows], results.embeddings[rows].astype(np.float32, copy=False)
    if weight_by_score:
        embeddings = embeddings * boxes[:, 4:].astype(np.float32)
    counts = np.bincount(images, minlength=len(where))
    return Gallery(run_offsets(counts), counts, images, boxes, embeddings)
