"""Search evaluation by loops over queries and gallery images, with the steps of the published evaluators.

They keep, for every query, the image and the box of each similarity, in order to write rankings out, and go through
the gallery twice: for the similarities, then for the labels; the average precision is scikit-learn's. So it is here, so
that this loop's time stands for theirs.
"""

import numpy as np
from sklearn.metrics import average_precision_score

Box = tuple[float, float, float, float]


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def label_image(boxes: np.ndarray, similarities: np.ndarray, truth: Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, similarities and boxes, most similar first; the first box that overlaps enough is the true positive."""
    width, height = truth[2] - truth[0], truth[3] - truth[1]
    needed = min(0.5, width * height / ((width + 10) * (height + 10)))
    order = np.argsort(-similarities, kind='stable')
    boxes, labels = boxes[order], np.zeros(len(order), dtype=np.int32)
    for place, box in enumerate(boxes[:, :4]):
        if overlap(box, truth) >= needed:
            labels[place] = 1
            break
    return labels, similarities[order], boxes


def evaluate_by_loop(
    galleries: list[list[tuple[str, Box | None]]],
    detections: dict[str, tuple[np.ndarray, np.ndarray]],
    query_embeddings: np.ndarray,
    topk: tuple[int, ...] = (1, 5, 10),
) -> tuple[float, dict[int, float]]:
    """MAP and top-k.

    Args:
        galleries: For each query its gallery images, with the true box where there is one.
        detections: Boxes (n, 5) and embeddings (n, D) of the images that have any above the threshold.
        query_embeddings: (Q, D).
        topk: Values of k.
    """
    precisions, hits = [], []
    for gallery, query in zip(galleries, query_embeddings, strict=True):
        labels, scores, images, boxes = [], [], [], []
        similarity_of, truth_of = {}, {}
        num_truths = num_found = 0
        for name, truth in gallery:
            num_truths += truth is not None
            if name not in detections:
                continue
            embeddings = detections[name][1]
            similarities = embeddings.dot(query).ravel()
            if name in similarity_of:
                continue
            similarity_of[name] = similarities
            truth_of[name] = truth
        for name, similarities in similarity_of.items():
            found_boxes = detections[name][0]
            image_labels = np.zeros(len(similarities), dtype=np.int32)
            if truth_of[name] is not None:
                image_labels, similarities, found_boxes = label_image(found_boxes, similarities, truth_of[name])
                num_found += image_labels.sum()
            labels.extend(list(image_labels))
            scores.extend(list(similarities))
            images.extend([name] * len(similarities))
            boxes.extend(list(found_boxes))
        labels, scores = np.asarray(labels), np.asarray(scores)
        recall = num_found / num_truths
        precisions.append(average_precision_score(labels, scores) * recall if num_found else 0.0)
        ranked = labels[np.argsort(-scores, kind='stable')]
        hits.append([min(1, sum(ranked[:k])) for k in topk])
    return float(np.mean(precisions)), dict(zip(topk, np.mean(hits, axis=0).tolist(), strict=True))
