"""Detection AP and recall as person search reports them."""

from dataclasses import dataclass

import numpy as np

from mmps_kd.errors import UserError
from mmps_kd.structures import GroundTruth, SearchResults, expand_runs, intersection_areas, paired_iou, run_offsets

from .results_file import check_score_thr, check_structure


@dataclass(frozen=True)
class DetectionScores:
    """Detection figures, fractions in 0..1; 0 where there is nothing to find.

    Attributes:
        ap: Average precision x recall, all people.
        recall: Share of the people found.
        ap_labelled: The same among images with a labelled person, boxes on other people counted as wrong.
        recall_labelled: Share of the labelled people found.
    """

    ap: float
    recall: float
    ap_labelled: float
    recall_labelled: float


def evaluate_detection(
    results: SearchResults, ground_truth: GroundTruth, *, score_thr: float = 0.5, iou_thr: float = 0.5
) -> DetectionScores:
    """Score the detections (rule of Xiao et al.'s code: docs/evaluation.md).

    A true box is found by a detection if they overlap by ``iou_thr``, it is the detection's best true box, and the
    detection is its best detection. As in COCO, a detection that finds nobody is not counted as wrong where at least
    ``iou_thr`` of its area lies in one ignored region.

    Args:
        results: Detections; every image of the ground truth must be listed.
        ground_truth: Annotated people.
        score_thr: Detections with a lower score are ignored.
        iou_thr: Least overlap, 0..1.

    Raises:
        UserError: If the results are malformed or lack an image, or the model dropped detections above ``score_thr``.
    """
    check_structure(results)
    check_score_thr(results.score_thr, score_thr)
    images, boxes = _detections(results, ground_truth, score_thr)
    true_images = np.repeat(np.arange(len(ground_truth.num_boxes)), ground_truth.num_boxes)
    counted = ~_in_ignored_region(images, boxes, ground_truth, iou_thr)
    ap, recall = _score(images, boxes, counted, true_images, ground_truth.boxes, iou_thr)
    labelled_images = true_images[ground_truth.labelled]
    seen = np.isin(images, labelled_images)
    ap_labelled, recall_labelled = _score(
        images[seen],
        boxes[seen],
        counted[seen],
        labelled_images,
        ground_truth.boxes[ground_truth.labelled],
        iou_thr,
    )
    return DetectionScores(ap, recall, ap_labelled, recall_labelled)


def _detections(results: SearchResults, ground_truth: GroundTruth, score_thr: float) -> tuple[np.ndarray, np.ndarray]:
    """Image (index into the ground truth, ascending) and box of each detection above the threshold."""
    position = {name: index for index, name in enumerate(results.image_names.tolist())}
    names = ground_truth.image_names.tolist()
    missing = next((name for name in names if name not in position), None)
    if missing is not None:
        raise UserError(f"test image '{missing}' is not in the results: list an image without detections with 0 dets")
    where = np.array([position[name] for name in names], dtype=np.int64)
    boxes = results.boxes[expand_runs(run_offsets(results.num_dets)[where], results.num_dets[where])]
    images = np.repeat(np.arange(len(where)), results.num_dets[where])
    kept = boxes[:, 4] >= score_thr
    return images[kept], boxes[kept]


def _in_ignored_region(images: np.ndarray, boxes: np.ndarray, ground_truth: GroundTruth, iou_thr: float) -> np.ndarray:
    """(N,) bool: detections with at least ``iou_thr`` of their area in one ignored region."""
    ignored = np.zeros(len(boxes), dtype=bool)
    if ground_truth.ignored_images is None:
        return ignored
    first = np.searchsorted(images, ground_truth.ignored_images)
    last = np.searchsorted(images, ground_truth.ignored_images, side='right')
    dets, regions = expand_runs(first, last - first), np.repeat(np.arange(len(first)), last - first)
    inside = intersection_areas(boxes[dets, :4], ground_truth.ignored_boxes[regions])
    sides = boxes[dets, 2:4] - boxes[dets, :2]
    ignored[dets[(inside > 0) & (inside >= iou_thr * sides.prod(axis=1))]] = True
    return ignored


def _score(
    images: np.ndarray,
    boxes: np.ndarray,
    counted: np.ndarray,
    true_images: np.ndarray,
    true_boxes: np.ndarray,
    iou_thr: float,
) -> tuple[float, float]:
    """Average precision x recall, and recall; detections that are wrong and not ``counted`` (N,) are left out."""
    correct = _true_positives(images, boxes, true_images, true_boxes, iou_thr)
    if not correct.any():
        return 0.0, 0.0
    hits, everything = np.sort(boxes[correct, 4]), np.sort(boxes[correct | counted, 4])
    true_above = len(hits) - np.searchsorted(hits, hits)
    all_above = len(everything) - np.searchsorted(everything, hits)
    return float((true_above / all_above).sum() / len(true_boxes)), len(hits) / len(true_boxes)


def _true_positives(
    images: np.ndarray, boxes: np.ndarray, true_images: np.ndarray, true_boxes: np.ndarray, iou_thr: float
) -> np.ndarray:
    """(N,) bool: detections that are their best true box's best detection, and overlap it enough."""
    first, last = np.searchsorted(images, true_images), np.searchsorted(images, true_images, side='right')
    dets, truths = expand_runs(first, last - first), np.repeat(np.arange(len(true_boxes)), last - first)
    # The field keeps overlaps in single precision before it compares them.
    iou = paired_iou(true_boxes[truths], boxes[dets, :4]).astype(np.float32)
    chosen = _first_best(dets, iou) & _first_best(truths, iou) & (iou >= iou_thr)
    correct = np.zeros(len(boxes), dtype=bool)
    correct[dets[chosen]] = True
    return correct


def _first_best(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(N,) bool: the first of the largest values within each group."""
    order = np.lexsort((-values, groups))
    first = np.unique(groups[order], return_index=True)[1]
    best = np.zeros(len(groups), dtype=bool)
    best[order[first]] = True
    return best
