"""Trained weights that come from elsewhere."""

import hashlib
import os
from collections.abc import Iterable

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
    """Read trained weights in the forms that MMEngine's ``load_from`` takes; nothing but plain data is unpickled.

    These are a checkpoint of the runner, ``{'state_dict': ...}`` without ``meta``, and a ``state_dict`` alone, their
    keys with or without the ``module.`` of a wrapped model. Averaged weights are in ``state_dict`` already, where
    MMEngine's ``EMAHook`` wrote the checkpoint.

    Returns:
        The checkpoint with ``state_dict``, keys without ``module.``, and ``meta``, empty where the file has none;
        tensors on the CPU.

    Raises:
        UserError: If the file is missing, damaged or no checkpoint.
    """
    checkpoint = load_from_file(path)
    if not isinstance(checkpoint, dict):
        raise UserError(f'{path} is no checkpoint: it holds a {type(checkpoint).__name__}, not weights by their names')
    if 'state_dict' not in checkpoint:
        checkpoint = dict(state_dict=checkpoint)
    state, meta = checkpoint['state_dict'], checkpoint.get('meta')
    meta = {} if meta is None else meta
    if not isinstance(state, dict) or not isinstance(meta, dict) or not all(map(_is_weight, state.items())):
        found = state if isinstance(state, dict) and isinstance(meta, dict) else checkpoint
        raise UserError(
            f'{path} is no checkpoint: a state_dict of dense tensors is needed, alone or under the key state_dict, and '
            f'meta must be a dict if there is one; it has {_first(map(repr, found)) or "nothing"}'
        )
    if any(key.startswith('module.') for key in state):
        state = {key.removeprefix('module.'): value for key, value in state.items()}
    return {**checkpoint, 'state_dict': state, 'meta': meta}


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
        missing, unknown = model.load_state_dict(state_dict, strict=False)
    except RuntimeError as error:
        reasons = [line.strip() for line in str(error).splitlines()[1:]]
        more = f' (and {len(reasons) - 1} more)' if len(reasons) > 1 else ''
        raise UserError(f'{name} does not fit the config: {reasons[0]}{more}') from None
    # Files of old releases of torch lack these counters, which only training reads.
    missing = [key for key in missing if not key.endswith('num_batches_tracked')]
    if missing:
        others = f'; it has {len(unknown)} that the model lacks: {_first(unknown)}' if unknown else ''
        raise UserError(
            f'{name} does not fit the config: it lacks {_first(missing)} ({len(missing)} of {len(model.state_dict())} '
            f'weights){others}'
        )


def _first(names: Iterable[str]) -> str:
    names = list(names)
    return ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')
