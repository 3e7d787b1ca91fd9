"""tools/train.py in a fork of a process that has imported what takes long, and has run nothing.

A fork of the test's own process would do on a CPU build of torch alone: after a backward pass a CUDA build refuses
another one in a fork.
"""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import mmengine.config.config

from mmps_kd.datasets import base_person_search
from mmps_kd.engine import ResumableTrainLoop
from mmps_kd.engine.hooks import resume_hook

HERE = Path(__file__).parent
CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(['forked_train'])


def run(tool: str, arguments: list[str], log: Path, environment: dict[str, str], before: Callable | None) -> int:
    """Run the tool to its end: its exit code, negative where a signal ended it.

    Args:
        tool: Path of train.py.
        arguments: Its command line.
        log: Gets what it prints.
        environment: Variables that it sees beside those of the test run.
        before: Called in the process before the tool is; a function of a module, or a partial of one.
    """
    process = CONTEXT.Process(target=become, args=(tool, arguments, log, environment, before))
    process.start()
    process.join()
    return process.exitcode


def become(tool: str, arguments: list[str], log: Path, environment: dict[str, str], before: Callable | None) -> None:
    """The tool, in this process."""
    os.environ.update(environment)
    os.setpgrp()
    sys.stdout = sys.stderr = open(log, 'w', buffering=1)  # noqa: SIM115  for the rest of the process
    os.dup2(sys.stdout.fileno(), 1)
    os.dup2(sys.stdout.fileno(), 2)
    sys.path.insert(0, str(HERE))
    sys.argv = [tool, *arguments]
    # MMEngine formats the config's text for each checkpoint, which takes longer than all iterations here.
    mmengine.config.config.FormatCode = lambda text, **_: (text, True)
    if before is not None:
        before()
    runpy.run_path(tool, run_name='__main__')


def forget_streams():
    """What MMEngine does: streams are seeded at the start of the process."""
    resume_hook.seed_rng = lambda *key: None


def forget_position():
    """What MMEngine does: the epoch begins again."""
    ResumableTrainLoop.resume_from = lambda self, position: None


def forget_samples():
    """What MMEngine does: samples draw from the streams of the process that loads them."""
    base_person_search.isolated_rng = lambda *key: nullcontext()
