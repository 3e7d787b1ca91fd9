"""A tool in a fork of a process that has imported what takes long, and has run nothing.

A fork of the test's own process would do until it has run something with threads: a child may wait forever for a lock
that a thread of LanceDB held (2 of 100 forks), and after a backward pass a CUDA build of torch refuses another one.
"""

import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import mmengine.config.config

from mmps_kd.apis.inferencer import SearchModel
from mmps_kd.datasets import base_person_search
from mmps_kd.engine import ResumableTrainLoop
from mmps_kd.engine.hooks import resume_hook

CONTEXT = multiprocessing.get_context('forkserver')
# Not this module: Python 3.11 does not give the server the test run's path.
CONTEXT.set_forkserver_preload(['mmps_kd.apis', 'mmps_kd.datasets', 'mmps_kd.engine'])


def run(tool: str, arguments: list[str], log: Path, environment: dict[str, str], before: Callable | None) -> int:
    """Run the tool to its end: its exit code, negative where a signal ended it.

    Args:
        tool: Path of the script.
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


def stop_at_call(count: Path, stop_at: int, number: int):
    """Count the calls of the model in a file; the process gets signal ``number`` at the ``stop_at``-th."""
    detect = SearchModel.detect

    def counted(model, images):
        with open(count, 'a') as file:
            file.write('x')
        if count.stat().st_size == stop_at:
            os.kill(os.getpid(), number)
        return detect(model, images)

    SearchModel.detect = counted
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a job that a script started in the background
