"""The scripts behind ``make env``; what downloads or compiles is replaced by stand-ins."""

import os
import platform
import re
import subprocess
import sys
from importlib.metadata import distributions, requires
from pathlib import Path

import mmcv
import pytest
from mmcv.ops import get_compiling_cuda_version

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / 'tools'))

import mmcv_ops  # noqa: E402
import setup_env  # noqa: E402

THIS_VENV = Path(sys.prefix)
INSTALLED = {re.sub(r'[-_.]+', '-', dist.metadata['Name']).lower() for dist in distributions()}
MMCV = f'{"onedl-mmcv" if "onedl-mmcv" in INSTALLED else "mmcv"}=={mmcv.__version__}'


def run_script(**variables):
    command = [sys.executable, str(ROOT / 'tools' / 'setup_env.py')]
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)


@pytest.fixture
def steps(monkeypatch):
    """Stand-ins for pip and the builder; the list says what was asked of them."""
    steps = []
    monkeypatch.setattr(mmcv_ops, 'torch_build', lambda venv: ('2.13.0+cpu', False))
    monkeypatch.setattr(mmcv_ops, 'install_wheel', lambda venv, wheel: steps.append(f'install {wheel.name}'))
    monkeypatch.setattr(mmcv_ops, 'build_wheel', lambda *args: steps.append('build') or Path('built.whl'))
    return steps


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """Two ready wheels of onedl-mmcv 2.3.6 that fit, one given and one in the cache."""
    given, name = tmp_path / 'given', f'onedl_mmcv-2.3.6-{mmcv_ops.TAG}-{mmcv_ops.TAG}'
    monkeypatch.setenv('MMPS_WHEELS', str(given))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    cache = mmcv_ops.wheel_cache('onedl-mmcv==2.3.6', '2.13.0+cpu', cuda=False)
    wheels = [given / f'{name}-linux_{platform.machine()}.whl', cache / f'{name}-manylinux_{platform.machine()}.whl']
    for wheel in wheels:
        wheel.parent.mkdir(parents=True)
        wheel.touch()
    return wheels


def ops_problems(monkeypatch, answers):
    answers = iter(answers)
    monkeypatch.setattr(mmcv_ops, 'ops_problem', lambda *args: next(answers))


@pytest.mark.parametrize('python', [(3, 9), (3, 14), (2, 7)])
def test_other_pythons_are_refused_in_one_line(python):
    with pytest.raises(SystemExit, match=rf'error: Python {python[0]}\.{python[1]} at .* use 3\.10 to 3\.13'):
        setup_env.check_python(python)


@pytest.mark.parametrize('python', [(3, 10), (3, 13)])
def test_supported_pythons_pass(python):
    assert setup_env.check_python(python) is None


def test_missing_compiler_is_named(monkeypatch):
    monkeypatch.setenv('CXX', 'no-such-compiler')
    with pytest.raises(SystemExit, match=r'no C\+\+ compiler \(no-such-compiler\): install g\+\+'):
        setup_env.check_compiler()


def test_missing_venv_module_is_named(monkeypatch):
    monkeypatch.setattr(setup_env.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(SystemExit, match=r'cannot make virtual environments: install .*-venv'):
        setup_env.check_compiler()


def test_unknown_stack_is_one_line_and_exit_code_1():
    done = run_script(STACK='openmlab')

    assert done.returncode == 1
    assert done.stderr == 'error: STACK=openmlab is unknown: use one of openmmlab, upstream\n'


def test_nothing_happens_while_the_stamp_fits(tmp_path, monkeypatch):
    monkeypatch.setattr(setup_env, 'VENVS', {'openmmlab': str(tmp_path)})
    monkeypatch.setenv('STACK', 'openmmlab')
    made = []
    monkeypatch.setattr(setup_env, 'make_venv', made.append)
    monkeypatch.setattr(setup_env, 'install', lambda venv, stack: made.append(stack))

    setup_env.main()
    setup_env.main()
    assert made == [tmp_path, 'openmmlab']

    (tmp_path / setup_env.STAMP).write_text('other pins')
    setup_env.main()
    assert made == [tmp_path, 'openmmlab'] * 2


def test_fingerprint_follows_pins_and_stack(tmp_path, monkeypatch):
    monkeypatch.setattr(setup_env, 'REQUIREMENTS', tmp_path)
    pins = tmp_path / 'base.txt'
    seen = []
    for text in ('numpy==2.2.6', 'numpy==2.2.5'):
        pins.write_text(text)
        seen += [setup_env.fingerprint(stack) for stack in setup_env.VENVS]

    assert len(set(seen)) == 4
    assert seen[-1] == setup_env.fingerprint('upstream')


@pytest.mark.parametrize('stack', setup_env.VENVS)
def test_pins_of_a_stack_are_exact(stack):
    lines = setup_env.read_requirements(setup_env.REQUIREMENTS / f'{stack}.txt')
    mmcv_pin, others = setup_env.split_mmcv(lines)

    assert re.fullmatch(r'(onedl-)?mmcv==[\d.]+', mmcv_pin)
    assert len(others) >= 2
    assert all(re.fullmatch(r'[\w-]+==[\d.]+', line) for line in others)


def test_base_lists_what_the_stack_needs():
    """Its packages are installed without dependencies, so that base.txt must name them."""
    stack = 'openmmlab' if MMCV.startswith('onedl') else 'upstream'
    pins = [line.split('==')[0] for line in setup_env.read_requirements(ROOT / f'requirements/{stack}.txt')]
    lines = [line for name in pins for line in requires(name) if not re.search('extra ==|win32', line)]
    needed = {re.match(r'[\w-]+', line)[0].lower() for line in lines} - {'opencv-python', 'imagecorruptions-imaug'}
    listed = {re.match(r'[\w-]+', line)[0] for line in setup_env.read_requirements(ROOT / 'requirements/base.txt')}

    # The two left out: the headless build of OpenCV stands in, and openmmlab.txt says why the other is not needed.
    assert needed <= listed | set(pins)


def test_ready_wheels_fit_mmcv_python_and_processor(tmp_path):
    tag, machine = mmcv_ops.TAG, platform.machine()
    fitting = tmp_path / f'onedl_mmcv-2.3.6-{tag}-{tag}-linux_{machine}.whl'
    others = [
        f'onedl_mmcv-2.3.5-{tag}-{tag}-linux_{machine}.whl',
        f'onedl_mmcv-2.3.6-cp39-cp39-linux_{machine}.whl',
        f'onedl_mmcv-2.3.6-{tag}-{tag}-linux_sparc.whl',
        f'mmcv-2.3.6-{tag}-{tag}-linux_{machine}.whl',
        'onedl_mmcv-2.3.6-py3-none-any.whl',
    ]
    for name in [fitting.name, *others]:
        (tmp_path / name).touch()

    assert mmcv_ops.ready_wheels('onedl-mmcv==2.3.6', [tmp_path / 'absent', tmp_path]) == [fitting]


def test_mmcv_whose_ops_run_is_kept(steps, wheels, monkeypatch):
    ops_problems(monkeypatch, [''])
    mmcv_ops.install_mmcv(THIS_VENV, 'onedl-mmcv==2.3.6')
    assert steps == []


def test_given_wheel_comes_before_the_cache(steps, wheels, monkeypatch):
    ops_problems(monkeypatch, ['not there', ''])
    mmcv_ops.install_mmcv(THIS_VENV, 'onedl-mmcv==2.3.6')
    assert steps == [f'install {wheels[0].name}']


def test_wheels_whose_ops_fail_lead_to_a_build(steps, wheels, monkeypatch):
    ops_problems(monkeypatch, ['not there', 'undefined symbol', 'undefined symbol', ''])
    mmcv_ops.install_mmcv(THIS_VENV, 'onedl-mmcv==2.3.6')
    assert steps == [*(f'install {wheel.name}' for wheel in wheels), 'build', 'install built.whl']


def test_ops_that_fail_after_the_build_stop_with_what_to_do(steps, wheels, monkeypatch):
    ops_problems(monkeypatch, ['not there', 'bad', 'bad', 'No module named mmcv._ext'])
    with pytest.raises(SystemExit, match=r'do not run: No module named mmcv\._ext\. See .*build\.log; then remove'):
        mmcv_ops.install_mmcv(THIS_VENV, 'onedl-mmcv==2.3.6')


def test_wheels_folder_must_exist(monkeypatch):
    monkeypatch.setenv('MMPS_WHEELS', '/no/such/folder')
    with pytest.raises(SystemExit, match='MMPS_WHEELS=/no/such/folder is not a folder'):
        mmcv_ops.given_folders()


def test_cache_is_keyed_by_mmcv_python_torch_and_device(monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', '/cache')
    folder = mmcv_ops.wheel_cache('mmcv==2.1.0', '2.13.0+cu130', cuda=True)

    assert folder == Path(f'/cache/mmps_kd/wheels/mmcv-2.1.0-{mmcv_ops.TAG}-torch-2.13.0+cu130-cuda')


def test_ops_run_in_this_environment():
    assert mmcv_ops.ops_problem(THIS_VENV, MMCV, ['cpu']) == ''


def test_ops_problem_tells_of_another_version():
    problem = mmcv_ops.ops_problem(THIS_VENV, 'mmcv==0.0.1', ['cpu'])
    assert problem == f'AssertionError: mmcv is {mmcv.__version__} instead of 0.0.1'


@pytest.mark.parametrize(
    ('torch_line', 'toolkit', 'force', 'expected', 'notice'),
    [
        ('2.13.0+cpu None False', '13.0', '', ('2.13.0+cpu', False), ''),
        ('2.13.0+cu130 13.0 True', '13.1', '', ('2.13.0+cu130', True), ''),
        ('2.13.0+cu130 13.0 False', '13.0', '', ('2.13.0+cu130', False), ''),
        ('2.13.0+cu130 13.0 False', '13.0', '1', ('2.13.0+cu130', True), ''),
        ('2.13.0+cu130 13.0 True', '12.8', '', ('2.13.0+cu130', False), 'nvcc is of CUDA 12.8'),
        ('2.13.0+cu130 13.0 True', None, '', ('2.13.0+cu130', False), 'there is no nvcc'),
        ('2.13.0+cu130 13.0 False', None, '', ('2.13.0+cu130', False), ''),
    ],
)
def test_cuda_ops_need_a_gpu_or_force_cuda_and_a_toolkit_of_torchs_major_version(
    torch_line, toolkit, force, expected, notice, monkeypatch, capsys
):
    monkeypatch.setenv('FORCE_CUDA', force)
    monkeypatch.setattr(mmcv_ops.subprocess, 'check_output', lambda *args, **kwargs: torch_line)
    monkeypatch.setattr(mmcv_ops, 'toolkit_version', lambda: toolkit)

    assert mmcv_ops.torch_build(THIS_VENV) == expected
    printed = capsys.readouterr().out
    assert notice in printed if notice else printed == ''


@pytest.mark.parametrize('torch_line', ['2.13.0+cpu None False', '2.13.0+cu130 13.0 False'])
def test_forced_cuda_ops_without_cuda_are_refused(torch_line, monkeypatch):
    monkeypatch.setenv('FORCE_CUDA', '1')
    monkeypatch.setattr(mmcv_ops.subprocess, 'check_output', lambda *args, **kwargs: torch_line)
    monkeypatch.setattr(mmcv_ops, 'toolkit_version', lambda: None)
    with pytest.raises(SystemExit, match=r'FORCE_CUDA=1, but torch 2\.13\.0.* there is no nvcc'):
        mmcv_ops.torch_build(THIS_VENV)


def test_cpu_ops_do_not_pass_for_cuda_ops():
    assert get_compiling_cuda_version() != 'not available' or 'CUDA' in mmcv_ops.ops_problem(THIS_VENV, MMCV, ['cuda'])


def test_toolkit_version_reads_nvcc(tmp_path, monkeypatch):
    monkeypatch.setenv('CUDA_HOME', str(tmp_path))
    assert mmcv_ops.toolkit_version() is None

    nvcc = tmp_path / 'bin' / 'nvcc'
    nvcc.parent.mkdir()
    nvcc.write_text('#!/bin/sh\necho "Cuda compilation tools, release 13.0, V13.0.88"\n')
    nvcc.chmod(0o755)
    assert mmcv_ops.toolkit_version() == '13.0'


def test_build_environment(monkeypatch):
    monkeypatch.delenv('MAX_JOBS', raising=False)
    cpu = mmcv_ops.build_environment(THIS_VENV, cuda=False)
    monkeypatch.setenv('MAX_JOBS', '1')
    monkeypatch.setenv('CFLAGS', '-O2')
    cuda = mmcv_ops.build_environment(THIS_VENV, cuda=True)

    assert (cpu['MMCV_WITH_OPS'], cpu['FORCE_CUDA'], cpu['CUDA_VISIBLE_DEVICES']) == ('1', '0', '')
    assert cpu['MAX_JOBS'] == str(os.cpu_count())
    assert cpu['PATH'].startswith(f'{THIS_VENV / "bin"}:')
    assert (cuda['FORCE_CUDA'], cuda['MAX_JOBS']) == ('1', '1')
    assert (cuda['CFLAGS'], cuda['CXXFLAGS']) == ('-O2 -g0', '-g0')
    assert cuda.get('CUDA_VISIBLE_DEVICES') == os.environ.get('CUDA_VISIBLE_DEVICES')


def test_build_shows_progress_and_keeps_a_log(tmp_path, capfd):
    lines = ['start', *(f'  [{n}/21] g++ file{n}' for n in range(1, 22)), 'a.cpp:3:1: fatal error: x.h: No such file']
    script = f'print({chr(10).join(lines)!r}); raise SystemExit(3)'
    log = tmp_path / 'build.log'

    assert mmcv_ops.follow_build([sys.executable, '-c', script], dict(os.environ), log) == 3
    shown = capfd.readouterr().out.splitlines()
    assert [line.split(',')[0] for line in shown] == [f'[env] mmcv: {n} of 21 files compiled' for n in (10, 20, 21)]
    assert log.read_text().splitlines() == lines
    assert mmcv_ops.first_error(log) == 'a.cpp:3:1: fatal error: x.h: No such file'
