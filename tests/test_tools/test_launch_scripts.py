"""The launch scripts run against stand-ins for ``python`` and ``srun`` that write down how they were called."""

import os
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
RECORD = '#!/bin/sh\necho "PYTHONPATH=$PYTHONPATH"\nprintf "%s\\n" "$@"\n'
TORCHRUN = ['-m', 'torch.distributed.run']


@pytest.fixture
def launch(tmp_path):
    """Run a script from another folder; give its lines of output, the environment's PYTHONPATH first."""
    for name in ('python', 'srun'):
        (tmp_path / name).write_text(RECORD)
        (tmp_path / name).chmod(0o755)

    def launch(script, *args, **variables):
        environment = {'PATH': f'{tmp_path}{os.pathsep}{os.environ["PATH"]}', **variables}
        command = [str(TOOLS / script), *args]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        path, *words = done.stdout.splitlines()
        assert Path(path.removeprefix('PYTHONPATH=').split(os.pathsep)[0]).resolve() == TOOLS.parent
        return words

    return launch


def test_train_on_one_node_takes_a_free_port(launch):
    words = launch('dist_train.sh', 'my config.py', '2', '--amp', '--cfg-options', 'a=1 2')

    assert words == [
        *TORCHRUN,
        *['--standalone', '--nproc_per_node=2', str(TOOLS / 'train.py'), 'my config.py'],
        *['--launcher', 'pytorch', '--amp', '--cfg-options', 'a=1 2'],
    ]


def test_train_on_two_nodes(launch):
    words = launch('dist_train.sh', 'config.py', '8', NNODES='2', NODE_RANK='1', MASTER_ADDR='node0', PORT='123')

    assert words == [
        *TORCHRUN,
        *['--nnodes=2', '--node_rank=1', '--master_addr=node0', '--master_port=123'],
        *['--nproc_per_node=8', str(TOOLS / 'train.py'), 'config.py', '--launcher', 'pytorch'],
    ]


def test_test_uses_the_given_port(launch):
    words = launch('dist_test.sh', 'config.py', 'last.pth', '4', '--show', PORT='29501')

    assert words == [
        *TORCHRUN,
        *['--nnodes=1', '--node_rank=0', '--master_addr=127.0.0.1', '--master_port=29501'],
        *['--nproc_per_node=4', str(TOOLS / 'test.py'), 'config.py', 'last.pth', '--launcher', 'pytorch', '--show'],
    ]


@pytest.mark.parametrize(
    ('args', 'expected'),
    [
        ([], []),
        (['out'], ['--work-dir', 'out']),
        (['out', '--amp'], ['--work-dir', 'out', '--amp']),
        (['--amp'], ['--amp']),
    ],
    ids=['alone', 'work dir', 'both', 'option'],
)
def test_slurm_train(launch, args, expected):
    words = launch('slurm_train.sh', 'gpu', 'oim', 'config.py', *args, GPUS='16', SRUN_ARGS='--quiet --time=10')

    assert words == [
        *['--partition=gpu', '--job-name=oim', '--gres=gpu:8', '--ntasks=16', '--ntasks-per-node=8'],
        *['--cpus-per-task=5', '--kill-on-bad-exit=1', '--quiet', '--time=10'],
        *['python', '-u', str(TOOLS / 'train.py'), 'config.py', '--launcher', 'slurm', *expected],
    ]


def test_slurm_test_asks_for_no_more_gpus_a_node_than_in_all(launch):
    words = launch('slurm_test.sh', 'gpu', 'oim', 'config.py', 'last.pth', '--show', GPUS='2', CPUS_PER_TASK='3')

    assert words == [
        *['--partition=gpu', '--job-name=oim', '--gres=gpu:2', '--ntasks=2', '--ntasks-per-node=2'],
        *['--cpus-per-task=3', '--kill-on-bad-exit=1'],
        *['python', '-u', str(TOOLS / 'test.py'), 'config.py', 'last.pth', '--launcher', 'slurm', '--show'],
    ]


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'])
def test_usage_without_arguments(script):
    done = subprocess.run([str(TOOLS / script)], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr.startswith('usage: ')
    assert done.stderr.count('\n') == 1


def test_gallery_scripts(launch):
    given = ['in 1', 'in 2', '--gallery', 's3://b/g']
    index = [str(TOOLS / 'gallery.py'), 'index', 'config.py', 'last.pth', *given]

    words = launch('dist_gallery.sh', 'config.py', 'last.pth', '4', *given)
    assert words == [*TORCHRUN, '--standalone', '--nproc_per_node=4', *index, '--launcher', 'pytorch']

    words = launch('slurm_gallery.sh', 'gpu', 'fill', 'config.py', 'last.pth', *given, GPUS='16')
    assert words[:5] == ['--partition=gpu', '--job-name=fill', '--gres=gpu:8', '--ntasks=16', '--ntasks-per-node=8']
    assert words[-len(index) - 4 :] == ['python', '-u', *index, '--launcher', 'slurm']
