"""What train and test tools do before they build a runner."""

import atexit
import gc
import os
from pathlib import Path

import torch
from mmengine.config import Config

from mmps_kd.datasets.dataset_wrappers import check_data_sets
from mmps_kd.errors import UserError


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


RANKS = {
    'none': None,
    'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),
}
"""Variables in which a launcher gives rank, number of processes and rank on the machine."""


def read_rank(launcher: str) -> tuple[int, int, int]:
    """Rank, number of processes and rank on this machine, for processes that do not talk to each other.

    Raises:
        UserError: If the process was not started by this launcher.
    """
    if RANKS[launcher] is None:
        return 0, 1, 0
    try:
        rank, world, local = (int(os.environ[name]) for name in RANKS[launcher])
    except KeyError as missing:
        raise UserError(f'--launcher {launcher}, but {missing.args[0]} is not set: start the tool by it') from None
    return rank, world, local


def _end_process_group() -> None:
    """Delete the model, which holds the process group, and then the group.

    A thread of gloo that releases a tensor while Python ends would abort the process after its work is done.
    """
    gc.collect()
    torch.distributed.destroy_process_group()
