"""From annotations to arrays."""

import numpy as np
from mmdet.datasets.transforms import LoadAnnotations
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadPersonSearchAnnotations(LoadAnnotations):
    """mmdet's ``LoadAnnotations`` that adds ``gt_pids`` (N,) int64, -1 unlabelled.

    Args:
        **kwargs: As for mmdet's ``LoadAnnotations``, which by default loads boxes and labels.
    """

    def transform(self, results: dict) -> dict:
        """Load boxes, labels and person ids from ``results['instances']``."""
        results = super().transform(results)
        results['gt_pids'] = np.array([person['pid'] for person in results.get('instances', [])], dtype=np.int64)
        return results
