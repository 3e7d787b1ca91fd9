"""Detection figures of person search, for detectors without a re-identification branch."""

from collections.abc import Sequence

import numpy as np
from mmdet.registry import METRICS

from mmps_kd.structures import SearchResults

from ..functional import evaluate_detection
from .search_metric import DETECTION_FIGURES, ProtocolMetric


@METRICS.register_module()
class PersonDetectionMetric(ProtocolMetric):
    """Detection AP and recall as :class:`SearchMetric` has them: ``det_ap``, ``det_recall``, ``det_recall_labelled``.

    Attributes:
        model_score_thr: As for :class:`BaseSearchMetric`.

    Args:
        score_thr: Detections below it are left out. Not below the model's own threshold.
        collect_device: See ``BaseMetric``.
        prefix: See ``BaseMetric``.
    """

    default_prefix = 'detection'
    model_score_thr: float | None = None
    figure_names = DETECTION_FIGURES

    def __init__(self, score_thr: float = 0.5, collect_device: str = 'cpu', prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.score_thr = score_thr

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the boxes of each image."""
        for sample in data_samples:
            pred = sample['pred_instances']
            boxes = np.column_stack([pred['bboxes'].cpu().numpy(), pred['scores'].cpu().numpy()])
            self.results.append(dict(img_name=sample['img_name'], boxes=boxes))

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Score the whole test set; fractions in 0..1."""
        boxes = np.concatenate([res['boxes'] for res in results]).astype(np.float64)
        detections = SearchResults(
            image_names=np.array([res['img_name'] for res in results]),
            num_dets=np.array([len(res['boxes']) for res in results], dtype=np.int64),
            boxes=boxes,
            embeddings=np.zeros((len(boxes), 0), np.float32),
            query_embeddings=np.zeros((0, 0), np.float32),
            score_thr=self.model_score_thr,
        )
        scores = evaluate_detection(detections, self.evaluation.ground_truth, score_thr=self.score_thr)
        return dict(zip(DETECTION_FIGURES, (scores.ap, scores.recall, scores.recall_labelled), strict=True))
