"""A trained model on scenes that are in memory."""

import copy
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from mmps_kd.compat import type_name
from mmps_kd.errors import UserError
from mmps_kd.gallery import People
from mmps_kd.models.utils.checkpoint_io import file_sha256

from .named_configs import test_pipeline
from .plain_student import load_student, plain_student


class SceneModel:
    """A model and its test pipeline, without the data set: scenes, upright, and boxes in their pixels go in.

    Attributes:
        key: Hash of model, weights and pipeline: what the answers depend on, beside the score threshold.
        score_thr: The model's own score threshold, below which it drops people, from its config.

    Args:
        cfg: Config with ``model`` and a pipeline for tests, see :func:`test_pipeline`.
        checkpoint: Trained weights.
        device: Such as ``cuda:1``; None for the GPU if there is one.

    Raises:
        UserError: If the model cannot search, there is no such device, or the checkpoint does not fit.
    """

    def __init__(self, cfg: Config, checkpoint: str | os.PathLike, device: str | None = None) -> None:
        require_search_model(cfg)
        init_default_scope('mmdet')
        self.model = load_student(cfg, checkpoint, find_device(device))
        head = self.model.roi_head
        head.test_cfg = copy.deepcopy(head.test_cfg)  # set_score_thr leaves the config as it is
        self.score_thr: float = head.test_cfg.get('score_thr', 0.0)
        # Scenes come in memory, and nothing is annotated.
        steps = [step for step in test_pipeline(cfg) if not type_name(step['type']).startswith('Load')]
        self.pipeline = Compose(steps)
        # The last part: indexes of earlier releases hold what was found in photographs as stored, lying on their side.
        parts = [file_sha256(checkpoint), repr(plain_student(cfg.model)), repr(steps), 'images are turned upright']
        self.key = hashlib.sha256('\n'.join(parts).encode()).hexdigest()

    def set_score_thr(self, score_thr: float) -> None:
        """Find people with at least this score from now on, or with the model's own threshold if that is lower."""
        # The model keeps scores above its threshold, in single precision: the next lower number keeps equal ones too.
        below = float(np.nextafter(np.float32(score_thr), np.float32(-1)))
        self.model.roi_head.test_cfg.score_thr = below if score_thr < self.score_thr else self.score_thr

    def detect(self, images: Sequence[np.ndarray]) -> list[People]:
        """Find and describe the people of scenes, (H, W, 3) uint8 BGR each.

        Scenes of one size do not change each other's answer; smaller ones are padded to the largest, which may.
        """
        with torch.inference_mode():
            samples = self.model.test_step(pseudo_collate([self._prepare(image) for image in images]))
        return [_to_people(sample.pred_instances) for sample in samples]

    def embed(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Describe given people.

        Args:
            image: (H, W, 3) uint8 BGR.
            boxes: (N, 4) x1, y1, x2, y2 in its pixels.

        Returns:
            (N, D) float32 of unit length.

        Raises:
            UserError: If a box has no part in the image.
        """
        require_inside(boxes, image.shape[:2])
        queries = dict(boxes=boxes.astype(np.float32), ids=np.arange(len(boxes)))
        batch = pseudo_collate([self._prepare(image, queries=queries)])
        with torch.inference_mode():
            data = self.model.data_preprocessor(batch, False)
            (sample,) = data['data_samples']
            features = self.model.extract_feat(data['inputs'])
            (embeddings,) = self.model.roi_head.embed(features, [sample.query_instances.bboxes])
        return embeddings.cpu().numpy()

    def _prepare(self, image: np.ndarray, **more) -> dict:
        """What the pipeline makes of a scene."""
        return self.pipeline(dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2], **more))


def require_search_model(cfg: Config) -> None:
    """Refuse models that give no embedding of their own to a person.

    Raises:
        UserError: For a query-guided model and for a plain detector.
    """
    name = Path(cfg.filename or 'the config').name
    if type_name(cfg.model['type']) == 'QEEPS':
        raise UserError(
            f'{name} is a query-guided model, which looks at query and gallery together: use tools/test.py, or '
            'search with a student that learnt from it'
        )
    if 'reid_head' not in (cfg.model.get('roi_head') or {}):
        raise UserError(f'{name} has no re-identification head (model.roi_head.reid_head): it cannot search')


def require_inside(boxes: np.ndarray, size: tuple[int, int]) -> None:
    """Refuse boxes (N, 4) that have no part in an image of ``size`` (height, width).

    Raises:
        UserError: Naming the first such box.
    """
    height, width = size
    low, high = np.maximum(boxes[:, :2], 0), np.minimum(boxes[:, 2:], [width, height])
    outside = np.flatnonzero(~(low < high).all(axis=1))
    if len(outside):
        box = ' '.join(f'{x:g}' for x in boxes[outside[0]])
        raise UserError(
            f'box {box} has no part in the image of {width}x{height} pixels: give x1 y1 x2 y2, top left and bottom '
            'right corner in pixels of the image as stored'
        )


def find_device(name: str | None) -> torch.device:
    """The device of that name; None for the GPU if there is one, else the CPU.

    Raises:
        UserError: If it is not there.
    """
    if name is None:
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f'device {name} cannot be used: {str(error).splitlines()[0]}') from None


def _to_people(found: InstanceData) -> People:
    found = found.cpu().numpy()
    return People(found.bboxes, found.scores, found.embeddings)
