"""Pipeline steps for person ids and queries."""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs, Resize
from mmdet.registry import TRANSFORMS
from mmengine.structures import InstanceData

from mmps_kd.errors import UserError

from .image_files import decode_image

META_KEYS = (
    'img_id',
    'img_path',
    'img_name',
    'ori_shape',
    'img_shape',
    'scale_factor',
    'flip',
    'flip_direction',
    'homography_matrix',
)


@TRANSFORMS.register_module()
class LoadScene(BaseTransform):
    """Load the image at ``img_path`` as ``img`` (H, W, 3) uint8, BGR, with ``img_shape`` and ``ori_shape``.

    As mmcv's ``LoadImageFromFile``, with two differences: the orientation in EXIF is not applied, since annotated boxes
    are in pixels as stored; and an image that cannot be read to its end is a ``UserError`` that names the file. Grey,
    CMYK, 16-bit and transparent images become BGR of 8 bits; of an animated one the first frame is taken.
    """

    def transform(self, results: dict) -> dict:
        """Load the image.

        Raises:
            DamagedImageError: If the file cannot be decoded.
        """
        image = decode_image(results['img_path'])
        return {**results, 'img': image, 'img_shape': image.shape[:2], 'ori_shape': image.shape[:2]}


@TRANSFORMS.register_module()
class LoadPersonSearchAnnotations(LoadAnnotations):
    """mmdet's ``LoadAnnotations`` that adds ``gt_pids`` (N,) int64, -1 unlabelled, and ``gt_box_ids`` (N,) int64.

    Args:
        **kwargs: As for mmdet's ``LoadAnnotations``, which by default loads boxes and labels.
    """

    def transform(self, results: dict) -> dict:
        """Load boxes, labels, person ids and the boxes' numbers from ``results['instances']``."""
        results = super().transform(results)
        people = results.get('instances', [])
        results['gt_pids'] = np.array([person['pid'] for person in people], dtype=np.int64)
        results['gt_box_ids'] = np.array([person.get('box_id', -1) for person in people], dtype=np.int64)
        return results


@TRANSFORMS.register_module()
class FloorResize(Resize):
    """Resize as torchvision 0.4 does, and with it the published SeqNet: float pixels, sides rounded down.

    mmdet's ``Resize`` rounds sides to the nearest pixel and keeps 8 bits: of 1080x1920 it makes 844x1500, this step
    843x1500. ``img`` becomes (H, W, 3) float32 in 0..255.

    Args:
        scale: Two lengths in pixels: the shorter side becomes the smaller one, unless the longer side would be longer
            than the larger one.
    """

    def __init__(self, scale: tuple[int, int]) -> None:
        super().__init__(scale, keep_ratio=True)

    def _resize_img(self, results: dict) -> None:
        image = torch.from_numpy(results['img']).permute(2, 0, 1)[None].float()
        sides = image.shape[2:]
        factor = min(results['scale']) / min(sides)
        if max(sides) * factor > max(results['scale']):
            factor = max(results['scale']) / max(sides)
        size = tuple(math.floor(side * factor) for side in sides)
        image = F.interpolate(image, size, mode='bilinear', align_corners=False)[0]
        results['img'] = image.permute(1, 2, 0).contiguous().numpy()
        results['img_shape'] = size
        results['scale_factor'] = (size[1] / sides[1], size[0] / sides[0])
        results['keep_ratio'] = True


@TRANSFORMS.register_module()
class AlignPids(BaseTransform):
    """Run transforms that drop or reorder boxes, and do the same to ``gt_pids`` and ``gt_box_ids``.

    mmdet's transforms keep ``gt_bboxes_labels`` aligned with ``gt_bboxes``. While they run, the labels are replaced
    by the positions 0..N-1; afterwards labels, pids and numbers are gathered by these.
    Transforms that mix several images (Mosaic, MixUp, CopyPaste) add boxes and cannot be wrapped.

    Args:
        transforms: Configs of the transforms to run, such as ``RandomCrop`` or ``FilterAnnotations``.
    """

    def __init__(self, transforms: Sequence[dict]) -> None:
        self.transforms = [TRANSFORMS.build(transform) for transform in transforms]

    def transform(self, results: dict) -> dict | None:
        """Run the transforms; None if one of them gives None (a crop without a person)."""
        aligned = {key: results[key] for key in ('gt_bboxes_labels', 'gt_pids', 'gt_box_ids') if key in results}
        results['gt_bboxes_labels'] = np.arange(len(results['gt_pids']))
        for transform in self.transforms:
            results = transform(results)
            if results is None:
                return None
        kept = results['gt_bboxes_labels']
        return {**results, **{key: values[kept] for key, values in aligned.items()}}

    def __repr__(self) -> str:
        """Name the wrapped transforms."""
        return f'{type(self).__name__}(transforms={self.transforms})'


@TRANSFORMS.register_module()
class PackPersonSearchInputs(PackDetInputs):
    """mmdet's ``PackDetInputs`` with person ids and queries.

    ``gt_instances`` get ``pids`` and ``box_ids`` (N,) int64. Where queries lie in the image, the sample gets
    ``query_instances``: ``bboxes`` (n, 4) float32 in network input pixels and ``query_ids`` (n,) int64. The pipeline
    may resize such an image, not crop or flip it.

    Args:
        meta_keys: What becomes meta information of the sample.
    """

    mapping_table = {**PackDetInputs.mapping_table, 'gt_pids': 'pids', 'gt_box_ids': 'box_ids'}

    def __init__(self, meta_keys: Sequence[str] = META_KEYS) -> None:
        super().__init__(meta_keys)

    def transform(self, results: dict) -> dict:
        """Pack image, annotations, queries and meta information.

        Raises:
            UserError: If the numbers of boxes and person ids differ, or an image with queries was flipped.
        """
        path, pids = results.get('img_path'), results.get('gt_pids')
        if pids is not None and len(results['gt_bboxes']) != len(pids):
            raise UserError(
                f'{path}: {len(results["gt_bboxes"])} boxes but {len(pids)} person ids after the pipeline; wrap the '
                'transforms that drop boxes: dict(type="AlignPids", transforms=[...])'
            )
        packed = super().transform(results)
        if 'queries' in results:
            if results.get('flip'):
                raise UserError(f'{path} holds queries and was flipped; take RandomFlip out of the pipeline')
            boxes = torch.from_numpy(results['queries']['boxes'])
            scale = boxes.new_tensor(results.get('scale_factor', (1.0, 1.0))).repeat(2)  # (4,) w, h, w, h
            packed['data_samples'].query_instances = InstanceData(
                bboxes=boxes * scale, query_ids=torch.from_numpy(results['queries']['ids'])
            )
        return packed
