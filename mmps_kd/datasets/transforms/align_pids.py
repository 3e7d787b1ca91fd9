"""Person ids through transforms that know nothing of them."""

from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class AlignPids(BaseTransform):
    """Run transforms that drop or reorder boxes, and do the same to ``gt_pids``.

    mmdet's transforms keep ``gt_bboxes_labels`` aligned with ``gt_bboxes``. While they run, the labels are replaced
    by the positions 0..N-1; afterwards these tell which box each one was, and labels and pids are gathered by them.
    Transforms that mix several images (Mosaic, MixUp, CopyPaste) bring boxes that were not there before and do not
    fit in here.

    Args:
        transforms: Configs of the transforms to run, such as ``RandomCrop`` or ``FilterAnnotations``.
    """

    def __init__(self, transforms: Sequence[dict]) -> None:
        self.transforms = [TRANSFORMS.build(transform) for transform in transforms]

    def transform(self, results: dict) -> dict | None:
        """Run the transforms; None if one of them gives None (a crop that nobody is in)."""
        labels, pids = results['gt_bboxes_labels'], results['gt_pids']
        results['gt_bboxes_labels'] = np.arange(len(pids))
        for transform in self.transforms:
            results = transform(results)
            if results is None:
                return None
        kept = results['gt_bboxes_labels']
        results['gt_bboxes_labels'], results['gt_pids'] = labels[kept], pids[kept]
        return results

    def __repr__(self) -> str:
        """Name the wrapped transforms."""
        return f'{type(self).__name__}(transforms={self.transforms})'
