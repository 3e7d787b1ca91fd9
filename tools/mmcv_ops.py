"""Install mmcv with its compiled ops: from a ready wheel that fits, else built from the source release.

There is no wheel with ops on the package index, and a plain ``pip install`` builds mmcv without them.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from env_steps import fail, pip_install, say

TAG = f'cp{sys.version_info[0]}{sys.version_info[1]}'

# Runs in the new environment; arguments: the version of mmcv, then the devices.
OPS_CHECK = """
import mmcv, sys, torch
from mmcv.ops import RoIAlign, get_compiling_cuda_version, nms
version, *devices = sys.argv[1:]
assert mmcv.__version__ == version, f'mmcv is {mmcv.__version__} instead of {version}'
for device in devices:
    if device == 'cuda' and not torch.cuda.is_available():
        assert get_compiling_cuda_version() != 'not available', 'it has no CUDA ops'
        continue
    boxes = torch.tensor([[0., 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30]], device=device)
    kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7], device=device), 0.5)[1].tolist()
    assert kept == [0, 2], f'nms on {device} kept boxes {kept} instead of [0, 2]'
    rois = torch.tensor([[0., 0, 0, 4, 4]], device=device)
    pooled = RoIAlign((2, 2))(torch.ones(1, 1, 8, 8, device=device), rois)
    assert pooled.eq(1).all(), f'RoIAlign on {device} gave {pooled.flatten().tolist()} instead of ones'
"""
TORCH_QUERY = 'import torch; print(torch.__version__, torch.version.cuda, torch.cuda.is_available())'


def install_mmcv(venv: Path, requirement: str) -> None:
    """Install mmcv from the first ready wheel whose ops run, or build one; keep one that runs already."""
    torch_version, cuda = torch_build(venv)
    cache = wheel_cache(requirement, torch_version, cuda)
    devices = ['cpu', 'cuda'] if cuda else ['cpu']
    if not ops_problem(venv, requirement, devices):
        return
    for wheel in ready_wheels(requirement, [*given_folders(), cache]):
        say(f'installing {wheel.name}')
        install_wheel(venv, wheel)
        problem = ops_problem(venv, requirement, devices)
        if not problem:
            return
        say(f'the ops of this wheel do not run here ({problem}): trying further')
    install_wheel(venv, build_wheel(venv, requirement, cache, cuda))
    problem = ops_problem(venv, requirement, devices)
    if problem:
        fail(
            f'the ops of {requirement}, built just now, do not run: {problem}. See {cache / "build.log"}; '
            f'then remove {cache} and run again'
        )


def torch_build(venv: Path) -> tuple:
    """Ask the installed torch for its version, and whether CUDA ops can be built for it.

    CUDA ops are built where there is a GPU, or where FORCE_CUDA=1 asks for them (a container image is built without
    a GPU); both need a toolkit of torch's CUDA version.

    Returns:
        Version, such as ``2.13.0+cpu``; True if CUDA ops are to be built.
    """
    python = str(venv / 'bin' / 'python')
    version, torch_cuda, gpu = subprocess.check_output([python, '-c', TORCH_QUERY], text=True).split()
    toolkit = toolkit_version() if torch_cuda != 'None' else None
    matches = toolkit is not None and toolkit.split('.')[0] == torch_cuda.split('.')[0]
    found = f'nvcc is of CUDA {toolkit}' if toolkit else 'there is no nvcc'
    forced = os.environ.get('FORCE_CUDA') == '1'
    if forced and not matches:
        fail(f'FORCE_CUDA=1, but torch {version} is built for CUDA {torch_cuda} and {found}')
    if gpu == 'True' and not matches:
        say(
            f'a GPU is here, but {found}: mmcv gets CPU ops only. For GPU ops install '
            f'the toolkit of CUDA {torch_cuda}, remove {venv} and run again'
        )
    return version, matches and (gpu == 'True' or forced)


def toolkit_version() -> 'str | None':
    """Give the version of the CUDA toolkit's compiler, such as ``13.0``, or None without one."""
    home = os.environ.get('CUDA_HOME')
    nvcc = shutil.which('nvcc', path=os.path.join(home, 'bin') if home else None)
    if nvcc is None:
        return None
    found = re.search(r'release (\d+\.\d+)', subprocess.check_output([nvcc, '--version'], text=True))
    return found[1] if found else None


def wheel_cache(requirement: str, torch_version: str, cuda: bool) -> Path:
    """Give the folder of a built wheel: it fits one Python, torch and mmcv version, and one kind of device."""
    home = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    device = 'cuda' if cuda else 'cpu'
    return Path(home, 'mmps_kd', 'wheels', f'{requirement.replace("==", "-")}-{TAG}-torch-{torch_version}-{device}')


def given_folders() -> list:
    """Give the folder that MMPS_WHEELS names, if it names one."""
    folder = os.environ.get('MMPS_WHEELS')
    if folder and not Path(folder).is_dir():
        fail(f'MMPS_WHEELS={folder} is not a folder: name one with ready mmcv wheels, or unset it')
    return [Path(folder)] if folder else []


def ready_wheels(requirement: str, folders: list) -> list:
    """List the wheels for this mmcv version, Python and processor, in the order of the folders."""
    name = requirement.replace('-', '_').replace('==', '-')
    pattern = f'{name}-{TAG}-{TAG}-*{platform.machine()}.whl'
    return [wheel for folder in folders for wheel in sorted(folder.glob(pattern))]


def install_wheel(venv: Path, wheel: Path) -> None:
    """Install an mmcv wheel in place of any other."""
    pip_install(venv, '--no-deps', '--force-reinstall', wheel)


def ops_problem(venv: Path, requirement: str, devices: list) -> str:
    """Run ``nms`` and ``RoIAlign`` on each device; give the error's last line, or nothing if all is well."""
    command = [str(venv / 'bin' / 'python'), '-c', OPS_CHECK, requirement.split('==')[1], *devices]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ''
    return (done.stderr.strip().splitlines() or [f'exit code {done.returncode}'])[-1]


def build_wheel(venv: Path, requirement: str, cache: Path, cuda: bool) -> Path:
    """Compile mmcv with its ops from the source release.

    Args:
        venv: Environment with torch, ninja and setuptools.
        requirement: Such as ``onedl-mmcv==2.3.6``.
        cache: Folder that gets the wheel and ``build.log``.
        cuda: Whether to build the CUDA ops too.

    Returns:
        Path of the wheel.
    """
    cache.mkdir(parents=True, exist_ok=True)
    say(f'building the {"CPU and CUDA" if cuda else "CPU"} ops of {requirement}: about 9 minutes on 2 cores')
    # Without the cache: pip may keep a wheel without ops from an earlier plain install.
    pip = [venv / 'bin' / 'python', '-m', 'pip', 'wheel', '--verbose', '--no-cache-dir', '--disable-pip-version-check']
    options = ['--no-build-isolation', '--no-deps', '--no-binary', ':all:', '--wheel-dir', cache]
    command = [str(part) for part in [*pip, *options, requirement]]
    log = cache / 'build.log'
    if follow_build(command, build_environment(venv, cuda), log):
        fail(f'the build of {requirement} failed: {first_error(log)}. The full log is {log}')
    return ready_wheels(requirement, [cache])[0]


def build_environment(venv: Path, cuda: bool) -> dict:
    """Give the environment variables under which mmcv's build script compiles its ops."""
    path = os.pathsep.join([str(venv / 'bin'), os.environ['PATH']])
    environment = {'MAX_JOBS': str(os.cpu_count()), **os.environ, 'PATH': path, 'MMCV_WITH_OPS': '1'}
    # Python's own build flags ask for debug information, 97 % of the shared object. The last -g option counts.
    for name in ('CFLAGS', 'CXXFLAGS'):
        environment[name] = f'{os.environ.get(name, "")} -g0'.strip()
    # The script builds CUDA ops when torch sees a GPU, which fails without a toolkit: tell it either way.
    return {**environment, **({'FORCE_CUDA': '1'} if cuda else {'FORCE_CUDA': '0', 'CUDA_VISIBLE_DEVICES': ''})}


def follow_build(command: list, environment: dict, log: Path) -> int:
    """Run a build, its output into a log and ninja's counter onto the screen; give the exit code."""
    start = time.monotonic()
    terminal = sys.stdout.isatty()
    with log.open('w') as file:
        output = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT, 'text': True, 'errors': 'replace'}
        process = subprocess.Popen(command, env=environment, **output)
        for line in process.stdout:
            file.write(line)
            step = re.match(r'\s*\[(\d+)/(\d+)\]', line)
            # On a terminal one line that counts up, elsewhere a line for every tenth file.
            if step and (terminal or int(step[1]) % 10 == 0 or step[1] == step[2]):
                minutes, seconds = divmod(int(time.monotonic() - start), 60)
                text = f'[env] mmcv: {step[1]} of {step[2]} files compiled, {minutes}:{seconds:02d}'
                print(text, end='\r' if terminal else '\n', flush=True)
    if terminal:
        print()
    return process.wait()


def first_error(log: Path) -> str:
    """Give the first line of a build log that tells of an error."""
    lines = log.read_text().splitlines()
    told = (line.strip() for line in lines if re.search('error:', line, re.IGNORECASE))
    return next(told, 'no line of its log tells why')
