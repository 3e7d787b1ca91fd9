"""From files and annotations to arrays."""

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import LoadAnnotations
from mmdet.registry import TRANSFORMS

from mmps_kd.datasets.image_files import decode_scene


@TRANSFORMS.register_module()
class LoadScene(BaseTransform):
    """Load the image at ``img_path`` as ``img`` (H, W, 3) uint8, BGR, with ``img_shape`` and ``ori_shape``.

    As mmcv's ``LoadImageFromFile``, but for two things: annotated boxes are in pixels as stored, so that a turn by EXIF
    is not made; and an image that cannot be read to its end is a ``UserError`` that names the file. Grey, CMYK, 16-bit
    and transparent images become BGR of 8 bits, of an animated one the first picture is taken.
    """

    def transform(self, results: dict) -> dict:
        """Load the image.

        Raises:
            DamagedImageError: If the file cannot be decoded.
        """
        image = decode_scene(results['img_path'])
        return {**results, 'img': image, 'img_shape': image.shape[:2], 'ori_shape': image.shape[:2]}


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
