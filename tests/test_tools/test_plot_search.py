"""The plots of search figures: a picture, and its numbers in a CSV beside it."""

import csv
import importlib.util
import json
import sys

import pytest

from mmps_kd.errors import UserError

QUERIES = 'query,image,pid,true_boxes,ap,recall,first_hit,precisions\n'


@pytest.fixture
def run(repo_root, monkeypatch, tmp_path):
    """Run a plotting tool; give the rows of its CSV."""
    folder = repo_root / 'tools/analysis_tools'
    monkeypatch.syspath_prepend(str(folder))

    def run(name, *arguments, out='figure.png'):
        spec = importlib.util.spec_from_file_location(name, folder / f'{name}.py')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        picture = tmp_path / out
        monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments), '--out', str(picture)])
        module.main()
        assert picture.read_bytes().startswith(b'\x89PNG')
        with picture.with_suffix('.csv').open(newline='') as file:
            return list(csv.reader(file))

    return run


@pytest.fixture
def metrics(tmp_path):
    """Figures of two runs."""
    for name, values in (('strong', {'all': 0.5, '100': 0.75}), ('weak', {'50': 0.5})):
        content = {f'gallery_{size}': dict(mAP=value, top1=value + 0.125) for size, value in values.items()}
        (tmp_path / f'{name}.json').write_text(json.dumps({'mAP': 0.1, 'det_ap': 0.2, **content}))
    return [tmp_path / 'strong.json', tmp_path / 'weak.json']


@pytest.fixture
def queries(tmp_path):
    """Two queries: one of two true boxes found at precision 1; four of four, precisions 1, 1, 0.5, 0.75."""
    path = tmp_path / 'run.csv'
    path.write_text(QUERIES + '0,a.jpg,3,2,0.5,0.5,1,1.0\n1,b.jpg,4,4,0.8125,1.0,1,1.0 1.0 0.5 0.75\n')
    return path


def test_gallery_size(run, metrics):
    rows = run('plot_gallery_size', *metrics)
    assert rows[0] == ['run', 'gallery_size', 'mAP_percent']
    assert rows[1:] == [['strong', '100', '75.0'], ['strong', '6978', '50.0'], ['weak', '50', '50.0']]


def test_gallery_size_of_another_figure_with_labels(run, metrics):
    rows = run('plot_gallery_size', *metrics, '--figure', 'top1', '--labels', 'A', 'B')
    assert [row[0] for row in rows[1:]] == ['A', 'A', 'B']
    assert [row[2] for row in rows[1:]] == ['87.5', '62.5', '62.5']


def test_precision_recall(run, queries):
    rows = run('plot_precision_recall', queries)
    assert rows[0] == ['recall', 'run']
    curve = {float(recall): float(precision) for recall, precision in rows[1:]}
    assert len(curve) == 101
    # Up to half of the true boxes both are at 1; then the first has nothing, the second 0.75 from its last on.
    assert curve[0.0] == curve[0.5] == 1.0
    assert curve[0.51] == curve[1.0] == 0.375


def test_ap_histogram(run, queries):
    rows = run('plot_ap_histogram', queries, '--bins', 4)
    assert rows == [
        ['from', 'to', 'run'],
        ['0.0', '0.25', '0'],
        ['0.25', '0.5', '0'],
        ['0.5', '0.75', '1'],
        ['0.75', '1.0', '1'],
    ]


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('plot_gallery_size', '{"mAP": 0.5}', 'holds no gallery sizes'),
        ('plot_gallery_size', '{"gallery_50": {}}', "has no figure 'mAP'"),
        ('plot_gallery_size', '[1, 2]', 'is not a file that eval_results.py --out wrote'),
        ('plot_gallery_size', 'text', 'is not a file that eval_results.py --out wrote'),
        ('plot_ap_histogram', 'a,b\n1,2\n', 'is not a file that eval_results.py --per-query wrote'),
        ('plot_precision_recall', QUERIES + '0,a.jpg,1,two,1,1,1,1\n', 'is not a file that eval_results.py'),
    ],
)
def test_wrong_file_is_named(run, tmp_path, name, content, message):
    (tmp_path / 'input').write_text(content)
    with pytest.raises(UserError, match=f'input {message}'):
        run(name, tmp_path / 'input')


@pytest.mark.parametrize('name', ['plot_gallery_size', 'plot_ap_histogram', 'plot_precision_recall'])
def test_wrong_arguments_are_named(run, tmp_path, metrics, queries, name):
    source = metrics[0] if name == 'plot_gallery_size' else queries
    with pytest.raises(UserError, match='none.json does not exist'):
        run(name, tmp_path / 'none.json')
    with pytest.raises(UserError, match='2 --labels for 1 files'):
        run(name, source, '--labels', 'A', 'B')
    with pytest.raises(UserError, match='must end in .png, .pdf or .svg'):
        run(name, source, out='figure.bmp')
    with pytest.raises(UserError, match='there is no folder'):
        run(name, source, out='nowhere/figure.png')
