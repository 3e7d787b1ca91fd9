"""Pipeline steps for person ids and queries."""

import io
import math
import pickle
from collections.abc import Callable, Sequence
from multiprocessing.reduction import ForkingPickler
from typing import Any

import mmcv
import numpy as np
import torch
import torch.nn.functional as F
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs, Resize
from mmdet.registry import TRANSFORMS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmps_kd.errors import UserError

from .image_files import REDUCTIONS, decode_image

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
class ResizeFromFile(Resize):
    """Load an image and resize it, in the place of ``LoadScene`` and ``Resize``: quicker for large JPEG files.

    A JPEG is decoded at a half, a quarter or an eighth of its size where that leaves at least as many pixels as the
    image is resized to. Boxes, ``img_shape``, ``ori_shape`` and ``scale_factor`` are exactly those of the two steps;
    pixels of files that are decoded at a reduced scale differ, see docs/datasets.md, those of others do not. The data
    set gives the size of a file in ``width`` and ``height``. An image in memory (``img``) is resized as by ``Resize``.

    Args:
        scale: Two lengths in pixels, as for ``Resize`` with ``keep_ratio=True``.
    """

    def __init__(self, scale: tuple[int, int]) -> None:
        super().__init__(scale, keep_ratio=True)

    def _resize_img(self, results: dict) -> None:
        if 'img' in results:
            super()._resize_img(results)
            return
        sides = results['width'], results['height']
        size = mmcv.rescale_size(sides, results['scale'])
        fitting = [by for by in REDUCTIONS if all(sides[k] >= by * size[k] for k in (0, 1))]
        image = decode_image(results['img_path'], max(fitting, default=1))
        results['img'] = mmcv.imresize(image, size, interpolation=self.interpolation, backend=self.backend)
        results['img_shape'], results['ori_shape'] = size[::-1], sides[::-1]
        results['scale_factor'] = size[0] / sides[0], size[1] / sides[1]
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


class PersonSearchDataSample(DetDataSample):
    """mmdet's ``DetDataSample``, which a worker process sends to the training process in one message.

    PyTorch sends each tensor as a file in shared memory, which the training process asks the worker for: with four
    tensors of annotations an image, that takes it longer than all else it does for loading.
    """


class _InlinePickler(pickle.Pickler):
    """Writes tensors (on the CPU) into the message."""

    def reducer_override(self, value: Any) -> tuple[Callable, tuple]:
        return (torch.from_numpy, (value.numpy(),)) if isinstance(value, torch.Tensor) else NotImplemented


def _reduce_sample(sample: PersonSearchDataSample) -> tuple[Callable, tuple]:
    message = io.BytesIO()
    _InlinePickler(message).dump(sample)
    return pickle.loads, (message.getvalue(),)


# Used between processes alone; copies and files are as of any sample.
ForkingPickler.register(PersonSearchDataSample, _reduce_sample)


@TRANSFORMS.register_module()
class PackPersonSearchInputs(PackDetInputs):
    """mmdet's ``PackDetInputs`` with person ids and queries, packed as :class:`PersonSearchDataSample`.

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
        sample = PersonSearchDataSample()
        sample.update(packed['data_samples'])
        packed['data_samples'] = sample
        if 'queries' in results:
            if results.get('flip'):
                raise UserError(f'{path} holds queries and was flipped; take RandomFlip out of the pipeline')
            boxes = torch.from_numpy(results['queries']['boxes'])
            scale = boxes.new_tensor(results.get('scale_factor', (1.0, 1.0))).repeat(2)  # (4,) w, h, w, h
            sample.query_instances = InstanceData(
                bboxes=boxes * scale, query_ids=torch.from_numpy(results['queries']['ids'])
            )
        return packed
