"""Trained weights that come from elsewhere."""

import hashlib
import os
import pickle

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import Tensor, nn

from mmps_kd.compat import allow_checkpoint_classes
from mmps_kd.errors import UserError


def file_sha256(path: str | os.PathLike) -> str:
    """Hash of a file's bytes, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_checkpoint(path: str | os.PathLike) -> dict:
    """Read a checkpoint that the runner wrote; nothing but plain data is unpickled.

    Returns:
        With ``state_dict`` and ``meta``, tensors on the CPU.

    Raises:
        UserError: If the file is missing, damaged or no checkpoint.
    """
    # MMEngine's own loading takes its classes off the list again.
    allow_checkpoint_classes()
    try:
        checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except FileNotFoundError:
        raise UserError(f'there is no checkpoint {path}') from None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        name = type(error).__name__
        raise UserError(f'checkpoint {path} cannot be read ({name}): it is damaged or holds more than data') from None
    if not isinstance(checkpoint, dict) or not {'state_dict', 'meta'} <= checkpoint.keys():
        raise UserError(f'{path} is no checkpoint of tools/train.py: it lacks state_dict or meta')
    return checkpoint


def load_teacher(cfg: Config, state_dict: dict[str, Tensor], name: str) -> nn.Module:
    """Build the config's model with trained weights, for inference.

    Args:
        cfg: Config with ``model``.
        state_dict: The weights; what the model does not have is ignored, what it lacks is an error.
        name: The checkpoint, for messages.

    Returns:
        The model in eval mode, on the GPU if there is one.

    Raises:
        UserError: If config and weights do not belong together.
    """
    model = MODELS.build(cfg.model)
    try:
        missing = model.load_state_dict(state_dict, strict=False).missing_keys
    except RuntimeError as error:
        raise UserError(f'{name} does not fit the config: {str(error).splitlines()[-1].strip()}') from None
    if missing:
        raise UserError(f'{name} does not fit the config: it lacks {missing[0]}')
    return model.to('cuda' if torch.cuda.is_available() else 'cpu').eval()
