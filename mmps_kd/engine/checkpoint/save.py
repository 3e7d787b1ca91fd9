"""Saving a run, on all ranks at once."""

from pathlib import Path

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.runner import Runner

from mmps_kd.errors import UserError

from .atomic import ATOMIC_BACKEND, write_atomically

POINTER = 'last_checkpoint'
"""File in the work dir that names the newest checkpoint, as in MMEngine."""

INTERRUPTED = 'interrupted.pth'
"""Checkpoint of a run that was told to stop."""


def save_checkpoint(runner: Runner, path: Path, meta: dict, **kwargs) -> None:
    """Let the main process write a checkpoint and then the pointer to it; the others wait.

    Args:
        runner: The runner.
        path: The file.
        meta: With ``epoch`` and ``iter`` that a resumed run starts with.
        **kwargs: As for ``Runner.save_checkpoint``.

    Raises:
        UserError: On the main process, if they cannot be written; the other ranks exit with code 1, so that nobody
            waits for a run that has ended.
    """
    failure = [None]
    try:
        kwargs.setdefault('backend_args', dict(backend=ATOMIC_BACKEND))
        runner.save_checkpoint(str(path.parent), path.name, meta=meta, **kwargs)
        if is_main_process():
            write_atomically(Path(runner.work_dir, POINTER), str(path).encode())
    except UserError as error:
        failure = [error]
    broadcast_object_list(failure)
    if failure[0] is not None:
        raise failure[0] if is_main_process() else SystemExit(1)
