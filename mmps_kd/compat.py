"""What MMEngine must be told about this package, on either OpenMMLab stack."""

import pickle
from typing import Any

import numpy as np
import torch
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.logging import HistoryBuffer

try:
    from numpy._core import multiarray
except ImportError:  # numpy 1
    from numpy.core import multiarray


def add_config_scope() -> None:
    """Let MMEngine resolve configs named ``mmps_kd::...``: without this it knows the packages of a fixed list only.

    It imports :mod:`mmps_kd.registry` by itself when such a config is built.
    """
    MODULE2PACKAGE['mmps_kd'] = 'mmps_kd'


def allow_checkpoint_classes() -> None:
    """Let ``torch.load(..., weights_only=True)`` read the log histories in MMEngine's checkpoints.

    torch 2.6 made that check the default. MMEngine 0.10.7 writes :class:`HistoryBuffer` objects into every
    checkpoint and so cannot resume from its own. The check stays on: what such a buffer holds is allowed, and
    nothing else.
    """
    arrays = [np.ndarray, np.dtype, type(np.dtype(np.float64)), type(np.dtype(np.int64))]
    rebuild = [
        (function, f'numpy.{module}.multiarray.{function.__name__}')
        for function in (multiarray._reconstruct, multiarray.scalar)
        for module in ('_core', 'core')  # the names that numpy 2 and numpy 1 write
    ]
    torch.serialization.add_safe_globals([HistoryBuffer, *arrays, *rebuild, (_history_method, 'builtins.getattr')])


def _history_method(owner: type, name: str) -> Any:
    """Stand in for ``getattr``, by which pickles of :class:`HistoryBuffer` name its statistics (``min``, ``mean``).

    The real one would give a malicious file access to much more than these.
    """
    if owner is not HistoryBuffer or name.startswith('_'):
        raise pickle.UnpicklingError(f'the checkpoint asks for attribute {name} of {owner!r}, which is not allowed')
    return getattr(owner, name)
