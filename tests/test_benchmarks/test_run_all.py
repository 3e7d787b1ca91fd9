"""benchmarks/run_all.py: sections of RESULTS.md are replaced one by one; every benchmark is listed."""

import runpy
import sys

import pytest


@pytest.fixture
def run_all(repo_root, monkeypatch, tmp_path):
    """Run the tool on benchmarks of its own; gives its exit code or message, and what is in its RESULTS.md."""

    def run(benchmarks, *arguments):
        tool = runpy.run_path(str(repo_root / 'benchmarks/run_all.py'))
        names = tool['main'].__globals__
        names.update(RESULTS=tmp_path / 'RESULTS.md', BENCHMARKS=benchmarks, TRAININGS={})
        monkeypatch.setattr(sys, 'argv', ['run_all.py', *arguments])
        error = None
        try:
            tool['main']()
        except Exception as stopped:
            error = str(stopped)
        return error, (tmp_path / 'RESULTS.md').read_text()

    return run


def test_a_section_is_replaced_and_the_others_stay(run_all):
    first = dict(one=['-c', 'print(1)'], two=['-c', 'print(2)'])
    error, text = run_all(first)
    assert error is None
    assert text.index('## one\n') < text.index('$ python -c print(1)\n1\n```') < text.index('## two\n')
    assert 'torch' in text and 'commit' in text
    again = dict(one=['-c', 'print(3)'], two=['-c', 'print(4)'])
    _, text = run_all(again, '--only', 'one')
    assert 'print(3)\n3\n' in text and 'print(2)\n2\n' in text and 'print(1)' not in text and 'print(4)' not in text
    assert text.count('## one') == 1


def test_a_failure_does_not_stop_the_others(run_all):
    error, text = run_all(dict(bad=['-c', 'raise SystemExit(3)'], good=['-c', 'print(2)']))
    assert error == 'bad failed: -c raise SystemExit(3)'
    assert '## good' in text and '## bad' not in text


def test_every_benchmark_is_listed(repo_root):
    tool = runpy.run_path(str(repo_root / 'benchmarks/run_all.py'))
    listed = {command[0] for command in {**tool['BENCHMARKS'], **tool['TRAININGS']}.values()}
    assert all((repo_root / file).exists() for file in listed)
    assert {f'benchmarks/{file.name}' for file in (repo_root / 'benchmarks').glob('bench_*.py')} <= listed
