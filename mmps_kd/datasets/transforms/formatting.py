"""From a pipeline's results to what the model takes."""

from collections.abc import Sequence

import torch
from mmdet.datasets.transforms import PackDetInputs
from mmdet.registry import TRANSFORMS
from mmengine.structures import InstanceData

from mmps_kd.errors import UserError

META_KEYS = (
    'img_id',
    'img_path',
    'img_name',
    'ori_shape',
    'img_shape',
    'scale_factor',
    'flip',
    'flip_direction',
)


@TRANSFORMS.register_module()
class PackPersonSearchInputs(PackDetInputs):
    """mmdet's ``PackDetInputs`` with person ids and queries.

    ``gt_instances`` get ``pids`` (N,) int64. Where queries lie in the image, the sample gets ``query_instances``:
    ``bboxes`` (n, 4) float32 in network input pixels and ``query_ids`` (n,) int64. The pipeline may resize such an
    image, not crop or flip it.

    Args:
        meta_keys: What becomes meta information of the sample.
    """

    mapping_table = {**PackDetInputs.mapping_table, 'gt_pids': 'pids'}

    def __init__(self, meta_keys: Sequence[str] = META_KEYS) -> None:
        super().__init__(meta_keys)

    def transform(self, results: dict) -> dict:
        """Pack image, people, queries and meta information.

        Raises:
            UserError: If boxes and person ids have come apart, or an image with queries was flipped.
        """
        _require_aligned(results)
        packed = super().transform(results)
        if 'queries' in results:
            packed['data_samples'].query_instances = _query_instances(results)
        return packed


def _require_aligned(results: dict) -> None:
    if 'gt_pids' not in results:
        return
    boxes, pids = len(results['gt_bboxes']), len(results['gt_pids'])
    if boxes != pids:
        raise UserError(
            f'{results.get("img_path")}: {boxes} boxes but {pids} person ids after the pipeline; wrap the transforms '
            'that drop boxes: dict(type="AlignPids", transforms=[...])'
        )


def _query_instances(results: dict) -> InstanceData:
    if results.get('flip'):
        raise UserError(f'{results.get("img_path")} holds queries and was flipped; take RandomFlip out of the pipeline')
    boxes = torch.from_numpy(results['queries']['boxes'])
    scale = boxes.new_tensor(results.get('scale_factor', (1.0, 1.0)))
    return InstanceData(bboxes=boxes * scale.repeat(2), query_ids=torch.from_numpy(results['queries']['ids']))
