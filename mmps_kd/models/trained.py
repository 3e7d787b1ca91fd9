"""Trained weights that come from elsewhere."""

import hashlib
import os

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import Tensor, nn

from mmps_kd.compat import load_from_file
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
    checkpoint = load_from_file(path)
    if not isinstance(checkpoint, dict) or not {'state_dict', 'meta'} <= checkpoint.keys():
        raise UserError(f'{path} is no checkpoint of tools/train.py: it lacks state_dict or meta')
    state, meta = checkpoint['state_dict'], checkpoint['meta']
    if not isinstance(meta, dict) or not isinstance(state, dict) or not all(map(_is_weight, state.items())):
        raise UserError(f'{path} is no checkpoint of tools/train.py: state_dict or meta holds something else')
    return checkpoint


def _is_weight(item: tuple) -> bool:
    key, value = item
    return isinstance(key, str) and isinstance(value, Tensor) and value.layout == torch.strided


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
    load_weights(model, state_dict, name)
    return model.to('cuda' if torch.cuda.is_available() else 'cpu').eval()


def load_weights(model: nn.Module, state_dict: dict[str, Tensor], name: str) -> None:
    """Load weights; arguments and errors are those of :func:`load_teacher`."""
    try:
        missing = model.load_state_dict(state_dict, strict=False).missing_keys
    except RuntimeError as error:
        raise UserError(f'{name} does not fit the config: {str(error).splitlines()[-1].strip()}') from None
    if missing:
        raise UserError(f'{name} does not fit the config: it lacks {missing[0]}')
