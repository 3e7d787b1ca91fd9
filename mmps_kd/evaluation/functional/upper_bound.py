"""What a search would reach with a perfect detector."""

import numpy as np

from mmps_kd.structures import GroundTruth, SearchResults


def ground_truth_results(
    ground_truth: GroundTruth, embeddings: np.ndarray, query_embeddings: np.ndarray
) -> SearchResults:
    """Results with the annotated boxes, at score 1, in place of detections.

    Args:
        ground_truth: Annotated people of the test images.
        embeddings: (M, D) float, the model's embeddings of the annotated boxes, in the order of ``ground_truth.boxes``.
        query_embeddings: (Q, D) float.
    """
    return SearchResults(
        image_names=ground_truth.image_names,
        num_dets=ground_truth.num_boxes,
        boxes=np.column_stack([ground_truth.boxes, np.ones(len(ground_truth.boxes))]),
        embeddings=embeddings,
        query_embeddings=query_embeddings,
        score_thr=0.0,
    )
