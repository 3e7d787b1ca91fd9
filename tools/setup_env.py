#!/usr/bin/env python3
"""Make the virtual environment of the project; nothing happens when it stands already.

Environment variables:
    STACK: ``openmmlab`` (default, in ``.venv``) or ``upstream`` (in ``.venv-upstream``): which pins of mmengine, mmcv
        and mmdet.
    MMPS_WHEELS: A folder of ready mmcv wheels. One that fits is tried before mmcv is built.
    MAX_JOBS: How many compilers run at once while mmcv is built; as many as there are cores unless set.
    XDG_CACHE_HOME: Where built wheels are kept, in ``mmps_kd/wheels``; ``~/.cache`` unless set.
"""

import hashlib
import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
import time
from pathlib import Path

from env_steps import fail, pip_install, run, say
from mmcv_ops import install_mmcv

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / 'requirements'
VENVS = {'openmmlab': '.venv', 'upstream': '.venv-upstream'}
STAMP = 'mmps_kd.stamp'
OLDEST, NEWEST = (3, 10), (3, 13)
LIBRARIES = ('base.txt', 'onnx.txt', 'gallery.txt', 'milvus.txt', 'app.txt', 'dev.txt', 'docs.txt')
SCRIPTS = [Path(__file__).with_name(name) for name in ('setup_env.py', 'mmcv_ops.py', 'env_steps.py')]


def main() -> None:
    """Make or mend the environment, then leave a stamp that says from what it was made."""
    check_python(sys.version_info[:2])
    stack = os.environ.get('STACK') or 'openmmlab'
    if stack not in VENVS:
        fail(f'STACK={stack} is unknown: use one of {", ".join(VENVS)}')
    venv = ROOT / VENVS[stack]
    stamp, wanted = venv / STAMP, fingerprint(stack)
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    check_compiler()
    start = time.monotonic()
    make_venv(venv)
    install(venv, stack)
    stamp.write_text(wanted)
    say(f'{venv.name} is ready ({time.monotonic() - start:.0f} s)')


def check_python(version: tuple) -> None:
    """Stop at a Python, given as (major, minor), that the pins do not cover."""
    if not OLDEST <= version <= NEWEST:
        fail(
            f'Python {version[0]}.{version[1]} at {sys.executable} is not supported: use 3.10 to 3.13, '
            'for example PYTHON=python3.11 make env'
        )


def check_compiler() -> None:
    """Stop before the long downloads when a tool that comes with the system is missing."""
    python = f'python{sys.version_info[0]}.{sys.version_info[1]}'
    if importlib.util.find_spec('ensurepip') is None:
        fail(f'{sys.executable} cannot make virtual environments: install its venv module ({python}-venv)')
    compiler = os.environ.get('CXX', 'g++')
    if shutil.which(compiler) is None:
        fail(f'no C++ compiler ({compiler}): install g++, which builds the ops of mmcv')
    if not Path(sysconfig.get_path('include'), 'Python.h').is_file():
        fail(f'no Python.h for {sys.executable}: install the headers of Python ({python}-dev)')


def fingerprint(stack: str) -> str:
    """Give a hash of all that an environment is made from: pins, these scripts, packaging, Python, place, stack."""
    digest = hashlib.sha256(f'{stack} {ROOT} {sys.version}'.encode())
    for path in [*sorted(REQUIREMENTS.glob('*.txt')), *SCRIPTS, ROOT / 'setup.cfg', ROOT / 'setup.py']:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def make_venv(venv: Path) -> None:
    """Create the environment, anew if another Python version made it."""
    same_python = (venv / 'lib' / f'python{sys.version_info[0]}.{sys.version_info[1]}').is_dir()
    if not same_python or not (venv / 'bin' / 'pip').exists():
        say(f'creating {venv.name} with Python {platform.python_version()}')
        run([sys.executable, '-m', 'venv', '--clear', str(venv)])


def install(venv: Path, stack: str) -> None:
    """Install everything in the order that the builds need."""
    pip_install(venv, '-r', REQUIREMENTS / 'build.txt')
    say('installing torch (where the package index gives its CUDA build: a download of about 3 GB)')
    pip_install(venv, '-r', REQUIREMENTS / 'torch.txt')
    say('installing libraries')
    libraries = [f'--requirement={REQUIREMENTS / name}' for name in LIBRARIES]
    pip_install(venv, *libraries)
    mmcv, others = split_mmcv(read_requirements(REQUIREMENTS / f'{stack}.txt'))
    say(f'installing {", ".join(others)}')
    pip_install(venv, '--no-deps', '--no-build-isolation', *others)
    install_mmcv(venv, mmcv)
    pip_install(venv, '--no-deps', '--no-build-isolation', '--editable', ROOT)


def read_requirements(path: Path) -> list:
    """List the requirements of a file, without comments."""
    lines = (line.split('#')[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def split_mmcv(requirements: list) -> tuple:
    """Part mmcv, whose ops are compiled, from the rest."""
    mmcv = next(line for line in requirements if 'mmcv' in line)
    return mmcv, [line for line in requirements if line != mmcv]


if __name__ == '__main__':
    main()
