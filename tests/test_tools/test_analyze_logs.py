"""Curves of training logs: which value stands at which iteration."""

import csv
import importlib.util
import json
import sys

import pytest

from mmps_kd.errors import UserError


@pytest.fixture
def run(repo_root, monkeypatch, tmp_path):
    """Run the tool; give the rows of its CSV."""
    folder = repo_root / 'tools/analysis_tools'
    monkeypatch.syspath_prepend(str(folder))
    spec = importlib.util.spec_from_file_location('analyze_logs', folder / 'analyze_logs.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments):
        picture = tmp_path / 'curves.png'
        monkeypatch.setattr(sys, 'argv', ['analyze_logs', *map(str, arguments), '--out', str(picture)])
        module.main()
        assert picture.read_bytes().startswith(b'\x89PNG')
        with picture.with_suffix('.csv').open(newline='') as file:
            return list(csv.reader(file))[1:]

    return run


@pytest.fixture
def work_dir(tmp_path):
    """A run that was started, broke off after iteration 20, and went on from iteration 10."""
    starts = {
        '20260101_000000': [dict(iter=10, loss=4.0), {'search/mAP': 0.2, 'step': 1}, dict(iter=20, loss=3.5)],
        '20260102_000000': [dict(iter=20, loss=3.0), {'search/mAP': 0.4, 'step': 2}, dict(iter=30, loss=2.0)],
    }
    for name, lines in starts.items():
        file = tmp_path / 'student' / name / 'vis_data/scalars.json'
        file.parent.mkdir(parents=True)
        file.write_text('\n'.join(map(json.dumps, lines)) + '\n')
    return tmp_path / 'student'


def test_resumed_run_is_one_curve(run, work_dir):
    rows = run(work_dir)
    assert rows == [
        ['student', 'loss', '10', '4.0'],
        ['student', 'loss', '20', '3.0'],
        ['student', 'loss', '30', '2.0'],
    ]


def test_figures_stand_at_the_iteration_before_them(run, work_dir):
    rows = run(work_dir, '--keys', 'search/mAP', 'loss', '--labels', 'ours')
    assert rows[:2] == [['ours', 'search/mAP', '10', '0.2'], ['ours', 'search/mAP', '20', '0.4']]
    assert len(rows) == 5


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [(['--keys', 'los'], r"never logged 'los': it has iter, loss"), (['--labels', 'a', 'b'], '2 --labels for 1')],
)
def test_bad_arguments(run, work_dir, arguments, message):
    with pytest.raises(UserError, match=message):
        run(work_dir, *arguments)


def test_no_run(run, tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='holds no scalars.json'):
        run(tmp_path / 'empty')


def test_no_log(run, tmp_path):
    (tmp_path / 'other.json').write_text('{')
    with pytest.raises(UserError, match='not a log'):
        run(tmp_path / 'other.json')
