"""What MMEngine must be told about this package, and what differs between its configs and stacks."""

import os
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.dist import barrier, is_main_process
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

from mmps_kd.errors import UserError

try:
    from numpy._core import multiarray
except ImportError:  # numpy 1
    from numpy.core import multiarray


def add_config_scope() -> None:
    """Let MMEngine resolve configs named ``mmps_kd::...``: without this it knows the packages of a fixed list only.

    It imports :mod:`mmps_kd.registry` by itself when such a config is built.
    """
    MODULE2PACKAGE['mmps_kd'] = 'mmps_kd'


def checkpoint_classes() -> list:
    """What ``torch.load(..., weights_only=True)`` must allow to read the log histories in MMEngine's checkpoints.

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
    return [HistoryBuffer, *arrays, *rebuild, (_history_method, 'builtins.getattr')]


def load_from_file(path: str | os.PathLike, map_location: str | torch.device | None = 'cpu') -> Any:
    """Read what ``torch.save`` wrote, of plain data alone: no code that a file brings along is run.

    Raises:
        UserError: If the file is missing or damaged, or holds anything else.
    """
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise UserError(f'there is no checkpoint {path}')
    return _as_data(path, lambda: torch.load(path, map_location=map_location, weights_only=True))


def load_from_http(url: str, map_location: str | torch.device | None = 'cpu') -> Any:
    """As :func:`load_from_file`, of a file that is downloaded to torch's hub folder by the first rank.

    Raises:
        UserError: If it cannot be downloaded or is damaged, or holds anything but data.
    """

    def download() -> Any:
        try:
            return torch.hub.load_state_dict_from_url(url, map_location=map_location, weights_only=True)
        except OSError as error:
            raise UserError(f'{url} cannot be downloaded: {error}') from None

    if not is_main_process():
        barrier()
    checkpoint = _as_data(url, download)
    if is_main_process():
        barrier()
    return checkpoint


def read_checkpoints_as_data() -> None:
    """Let MMEngine's runner, hooks and ``init_cfg`` read checkpoints by :func:`load_from_file`, :func:`load_from_http`.

    The tools call it first; a script that builds a runner itself may do so, too. It holds for the whole process.
    Without it the maintained fork of MMEngine reads a file in which the check finds more than data again without the
    check, and so runs what it brings along. (``torchvision://`` and ``open-mmlab://`` name files of fixed servers.)
    """
    CheckpointLoader.register_scheme('', load_from_file, force=True)
    CheckpointLoader.register_scheme(('http://', 'https://'), load_from_http, force=True)


def _as_data(name: str, load: Callable[[], Any]) -> Any:
    try:
        with torch.serialization.safe_globals(checkpoint_classes()):
            return load()
    except UserError:
        raise
    except Exception as error:  # a damaged file makes the unpickler raise anything from KeyError to UnicodeDecodeError
        kind = type(error).__name__
        raise UserError(f'checkpoint {name} cannot be read ({kind}): it is damaged or holds more than data') from None


def _history_method(owner: type, name: str) -> Any:
    """Stand in for ``getattr``, by which pickles of :class:`HistoryBuffer` name its statistics (``min``, ``mean``).

    The real one would give a malicious file access to much more than these.
    """
    if owner is not HistoryBuffer or name.startswith('_'):
        raise pickle.UnpicklingError(f'the checkpoint asks for attribute {name} of {owner!r}, which is not allowed')
    return getattr(owner, name)


def type_name(registered: str | type) -> str:
    """Name of a class that a config gives as ``'A'``, ``'scope.A'``, ``'package.module.A'`` or the class itself."""
    name = registered.__name__ if isinstance(registered, type) else str(registered)
    return name.rpartition('.')[2]


def cpu_has_bfloat16() -> bool:
    """Whether torch convolves in bfloat16 by instructions of this processor (AVX-512 or AMX on x86).

    Without them a convolution in bfloat16 takes tens of times as long as in fp32.
    """
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()
