"""The model that a config trains, built for use: a distilled student without its teachers."""

import os

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

from mmps_kd.compat import type_name
from mmps_kd.models.utils.checkpoint_io import load_weights, read_checkpoint

TEACHING = ('teacher', 'distillation', 'lut', 'enabled')
"""What a :class:`PersonSearchDistiller` takes beside its student's config."""


def plain_student(model_cfg: dict) -> dict:
    """The config of a distiller's student alone; any other config is given back as it is.

    Args:
        model_cfg: ``cfg.model``; left as it is.

    Returns:
        Config of a detector that reads no file of a teacher.
    """
    if type_name(model_cfg['type']) != 'PersonSearchDistiller':
        return model_cfg
    student = {key: value for key, value in model_cfg.items() if key not in TEACHING}
    return {**student, 'type': 'PersonSearchRCNN'}


def load_student(cfg: Config, checkpoint: str | os.PathLike, device: str | torch.device) -> nn.Module:
    """Build the model of a config, plain or distilled, with trained weights, for inference.

    Tables and queues of OIM are for training alone and left aside: they may have any size, or be absent.

    Args:
        cfg: Config with ``model``.
        checkpoint: Trained weights, see :func:`read_checkpoint`.
        device: Where the model goes.

    Returns:
        The model in eval mode.

    Raises:
        UserError: If the checkpoint is missing, damaged, or does not fit the config.
    """
    model = MODELS.build(plain_student(cfg.model))
    state = {key: value for key, value in read_checkpoint(checkpoint)['state_dict'].items() if not _of_oim(key)}
    own = {key: value for key, value in model.state_dict().items() if _of_oim(key)}
    load_weights(model, {**state, **own}, str(checkpoint))
    return model.to(device).eval()


def _of_oim(key: str) -> bool:
    return '.loss_oim.' in key
