"""What train and test tools do before they build a runner."""

import atexit
import gc

import torch
from mmengine.config import Config


def prepare_process_group(cfg: Config) -> None:
    """Set up gloo where torchrun started the process on a machine without a GPU.

    MMEngine's launcher asks for a CUDA device whatever the backend, and its model wrapper names one; a group that
    stands and a wrapper that is configured are left alone by it.

    Args:
        cfg: With ``launcher``; gets a ``model_wrapper_cfg``.
    """
    if cfg.launcher == 'pytorch' and not torch.cuda.is_available():
        torch.distributed.init_process_group('gloo')
        atexit.register(end_process_group)
        cfg.model_wrapper_cfg = dict(device_ids=None, broadcast_buffers=False)


def end_process_group() -> None:
    """Take the group down, and before it the model that holds it.

    A thread of gloo that lets go of a tensor while Python ends aborts the process, though its work is done.
    """
    gc.collect()
    torch.distributed.destroy_process_group()
