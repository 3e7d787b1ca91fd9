"""Which detections show the searched person: the overlap rule of the field."""

from dataclasses import dataclass

import numpy as np

from mmps_kd.structures import SearchProtocol, expand_runs, paired_iou

from .boxes import search_iou_threshold
from .gallery import Gallery


@dataclass(frozen=True, eq=False)
class Matches:
    """Detections that overlap a true box enough, ordered by query, then by true box.

    Attributes:
        queries: (C,) int64.
        truths: (C,) int64, index of the true box in the protocol.
        detections: (C,) int64, index of the detection in the gallery.
    """

    queries: np.ndarray
    truths: np.ndarray
    detections: np.ndarray


def find_matches(gallery: Gallery, protocol: SearchProtocol) -> Matches:
    """Pair each true box with the detections of its image that pass the overlap rule.

    Where a protocol lists an image twice for a query, only the first of its true boxes can be found (SeqNet family);
    the second still counts among the true boxes.
    """
    queries = np.repeat(np.arange(protocol.num_queries), np.diff(protocol.truth_offsets))
    keys = queries * len(protocol.gallery_images) + protocol.truth_images
    truths = np.sort(np.unique(keys, return_index=True)[1])
    images = protocol.truth_images[truths]
    counts = gallery.counts[images]
    truths, detections = np.repeat(truths, counts), expand_runs(gallery.starts[images], counts)
    boxes = protocol.truth_boxes[truths]
    passed = paired_iou(gallery.boxes[detections, :4], boxes) >= search_iou_threshold(boxes)
    return Matches(queries[truths[passed]], truths[passed], detections[passed])
