"""What train and test tools do before they build a runner."""

import atexit
import gc
from pathlib import Path

import torch
from mmengine.config import Config

from mmps_kd.datasets.dataset_wrappers import check_data_sets


def set_up_run(cfg: Config, work_dir: str | None = None, launcher: str = 'none') -> None:
    """Set work dir and launcher of a config, and check its data sets.

    Args:
        cfg: Read by :func:`mmps_kd.apis.load_config`; changed in place.
        work_dir: None for the config's own, or ``work_dirs/<config name>`` where it has none.
        launcher: As for MMEngine's ``Runner``.

    Raises:
        UserError: If a loader has several data sets in a way that mixes up identities.
    """
    cfg.launcher = launcher
    cfg.work_dir = work_dir or cfg.get('work_dir') or str(Path('work_dirs', Path(cfg.filename).stem))
    check_data_sets(cfg)


def prepare_process_group(cfg: Config) -> None:
    """Set up gloo where torchrun started the process on a machine without a GPU.

    MMEngine's launcher asks for a CUDA device whatever the backend, and its model wrapper names one. An existing
    process group and a configured wrapper are left alone by it.

    Args:
        cfg: With ``launcher``; gets a ``model_wrapper_cfg``.
    """
    if cfg.launcher == 'pytorch' and not torch.cuda.is_available():
        torch.distributed.init_process_group('gloo')
        atexit.register(_end_process_group)
        cfg.model_wrapper_cfg = dict(device_ids=None, broadcast_buffers=False)


def _end_process_group() -> None:
    """Delete the model, which holds the process group, and then the group.

    A thread of gloo that releases a tensor while Python ends would abort the process after its work is done.
    """
    gc.collect()
    torch.distributed.destroy_process_group()
