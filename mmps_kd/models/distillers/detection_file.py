"""Detections from a file as the detector teacher."""

import json
from pathlib import Path

import numpy as np
import torch
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox_project
from mmdet.utils import InstanceList
from mmengine.structures import InstanceData
from torch import Tensor

from mmps_kd.errors import UserError

from ..utils.checkpoint_io import file_sha256


class DetectionFile:
    """What some detector found in the training images, compared at ``rpn.*`` and ``roi.*``; see ``outputs_of_boxes``.

    Its boxes go through the training pipeline's resizing, flips and crops by the image's ``homography_matrix``.

    Args:
        detections: COCO results (JSON): a list of ``image_id``, ``bbox`` (x, y, width, height in pixels as stored),
            ``score`` and ``category_id``, where ``image_id`` is the image's file name; or a dict of such
            ``annotations`` and of ``images`` (``id``, ``file_name``).
        category_id: Which detections are people; None: all.

    Raises:
        UserError: If the file is missing, damaged, incomplete, or has no detection of the category.
    """

    answers = 'boxes'

    def __init__(self, detections: str, category_id: int | None = None) -> None:
        self.config = Path(detections).name
        try:
            content = json.loads(Path(detections).read_text())
        except FileNotFoundError:
            raise UserError(f'there is no file of detections {detections}') from None
        except ValueError as error:
            raise UserError(f'{detections} is damaged or no JSON: {error}') from None
        self.sha256 = file_sha256(detections)
        names, entries, k = {}, content, 0
        try:
            if isinstance(content, dict):
                entries = content['annotations']
                names = {image['id']: image['file_name'] for image in content['images']}
            found: dict[str, list] = {}
            for k, entry in enumerate(entries):  # noqa: B007, k is in the message
                if category_id is None or entry['category_id'] == category_id:
                    x, y, width, height = entry['bbox']
                    name = str(names.get(entry['image_id'], entry['image_id']))
                    found.setdefault(name, []).append((x, y, x + width, y + height, entry['score']))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f'{detections} holds no COCO results: detection {k} has wrong or missing fields '
                f'({type(error).__name__}: {error}); each needs image_id, bbox, score and category_id'
            ) from None
        if not found:
            category = '' if category_id is None else f' of category_id={category_id}'
            raise UserError(f'{detections} has no detection{category}')
        rows = {name: np.array(values, dtype=np.float32) for name, values in found.items()}
        # The highest score first: where two overlap an anchor alike, the first counts.
        self.detections = {name: torch.from_numpy(values[np.argsort(-values[:, 4])]) for name, values in rows.items()}

    def detect_people(self, inputs: Tensor, samples: SampleList) -> InstanceList:
        """Detections of each image: ``bboxes`` (N, 4) in pixels of ``inputs``, ``scores`` (N,)."""
        found = []
        for sample in samples:
            rows = self.detections.get(sample.img_name, torch.zeros(0, 5)).to(inputs.device)
            matrix = torch.as_tensor(sample.get('homography_matrix', np.eye(3)), dtype=rows.dtype, device=rows.device)
            boxes = bbox_project(rows[:, :4], matrix, sample.img_shape)
            inside = (boxes[:, :2] < boxes[:, 2:]).all(dim=1)
            found.append(InstanceData(bboxes=boxes[inside], scores=rows[inside, 4]))
        return found

    def check(self, names: set[str]) -> None:
        """Compare with the training set's images.

        Raises:
            UserError: If none of them has a detection.
        """
        if not names & self.detections.keys():
            raise UserError(
                f'{self.config} names no image of the training set: its first is {next(iter(self.detections))}, the '
                f"training set's {min(names)}; image_id must be the file name, or images must list id and file_name"
            )
