"""Two nodes of one process each, on this machine, train as one node of two."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def free_port():
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


def test_two_nodes(runs, run_configs, repo_root, tmp_path):
    options = ['train_dataloader.batch_size=1', 'train_cfg.max_epochs=1']
    arguments = [run_configs['plain'], '1', '--work-dir', tmp_path / 'work', '--cfg-options', 'train_cfg.val_begin=9']
    env = dict(
        PATH=f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}',
        PYTHONPATH=str(Path(__file__).parent),
        CUDA_VISIBLE_DEVICES='',
        OMP_NUM_THREADS='1',
        NNODES='2',
        MASTER_ADDR='127.0.0.1',
        PORT=str(free_port()),
    )
    command = [repo_root / 'tools/dist_train.sh', *arguments, *options]
    nodes = [subprocess.Popen(command, env={**os.environ, **env, 'NODE_RANK': str(rank)}) for rank in range(2)]
    assert [node.wait(timeout=300) for node in nodes] == [0, 0]
    assert runs.differences(tmp_path / 'work', runs.straight('plain', options, ranks=2)) == []
