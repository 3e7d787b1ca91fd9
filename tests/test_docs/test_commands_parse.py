"""Every command in the documentation names a script that exists, options that it takes, settings that a config has."""

import functools
import operator
import re
import runpy
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

sys.path.append(str(Path(__file__).parent))

from commands import PAGES, ROOT, commands, inline_commands, named_files, read  # noqa: E402

PATH = re.compile(r'(?<![\w./-])(?:configs|tools|docs|tests|benchmarks|requirements|mmps_kd|\.ci)/[\w./+-]*\w')
BUILD_PRODUCT = re.compile('docs/_build/')  # there only after `make docs`
SYSTEM = {'docker', 'ln', 'mkdir', 'pip', 'pre-commit', 'source'}
INDENTED = re.compile(r'^ {4}(?:[A-Z_]+=\S+ )?(?:\.venv/bin/|python |make |tools/)', re.MULTILINE)


@pytest.mark.parametrize('page', PAGES)
def test_paths_on_a_page_exist(page):
    paths = {path for path in PATH.findall(read(page)) if not BUILD_PRODUCT.match(path)}
    missing = {path for path in paths if not (ROOT / path).exists()}
    assert missing <= set(named_files(page))


def test_build_products_are_ignored_by_git():
    assert 'docs/_build/' in read('.gitignore').splitlines()


@pytest.mark.parametrize('page', PAGES)
def test_commands_on_a_page_stand_in_fenced_blocks(page):
    assert INDENTED.findall(read(page)) == []


@pytest.mark.parametrize('page', PAGES)
def test_commands_on_a_page_parse(page, monkeypatch):
    for command in commands(page) + inline_commands(page):
        check(command, monkeypatch)


@pytest.mark.parametrize(
    'command',
    ['python tools/trian.py', 'python tools/train.py config.py --work-dri x', 'make dmeo', 'tools/train.sh', 'cat x'],
)
def test_a_wrong_command_is_noticed(command, monkeypatch):
    with pytest.raises((AssertionError, FileNotFoundError, SystemExit)):
        check(command.split(), monkeypatch)


def test_a_setting_that_no_config_has_is_noticed(monkeypatch):
    command = 'python tools/train.py configs/oim/oim_r18_18e_prw.py --cfg-options model.head.reid=1'
    with pytest.raises(KeyError, match='head'):
        check(command.split(), monkeypatch)


def check(command, monkeypatch):
    program, *words = command
    if program == 'make':
        assert re.search(rf'^{words[0]}:', read('Makefile'), re.MULTILINE), f'make has no target {words[0]}'
    elif program == 'python' and words[0] == '-m':
        assert words[1] == 'pytest'
    elif program == 'python':
        check_settings(parse(words[0], words[1:], monkeypatch))
    elif Path(program).stem in ('dist_train', 'dist_test'):
        words.remove(next(word for word in words if word.isdigit()))  # the number of processes
        check_settings(parse(f'tools/{Path(program).stem.removeprefix("dist_")}.py', words, monkeypatch))
    elif program not in SYSTEM:
        assert program.startswith(('tools/', 'benchmarks/'))
        assert (ROOT / program).stat().st_mode & 0o100, f'{program} is no program'


def parse(script, arguments, monkeypatch):
    """Hand arguments to a script's own parser."""
    monkeypatch.syspath_prepend(str((ROOT / script).parent))
    parse_args = runpy.run_path(str(ROOT / script))['parse_args']
    monkeypatch.setattr(sys, 'argv', [script, *arguments])
    return parse_args()


def check_settings(args):
    """--cfg-options change settings that the config has, or add to a group that it has."""
    config = ROOT / getattr(args, 'config', 'none')
    if getattr(args, 'cfg_options', None) and config.is_file():
        for key in args.cfg_options:
            functools.reduce(operator.getitem, key.split('.')[:-1], Config.fromfile(config))
