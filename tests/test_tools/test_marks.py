"""Marks of a report: precision at k by tools/eval_results.py, annotations by marks2json.py."""

import json
import runpy
import sys

import numpy as np
import pytest
from PIL import Image

from mmps_kd.datasets import CustomPersonSearchDataset

REPORT = '<!DOCTYPE html>\n<meta name="mmps-kd-report" content="{}">\n'


def box(image, x):
    return dict(image=image, box=[x, 5, x + 10, 35.5])


QUERY, MARKS = [box('images/q.jpg', 0)], 'RW-R'  # right, wrong, not marked, right
HITS = [box('images/a.jpg', 0), box('images/b.jpg', 0), box('images/a.jpg', 20), box('images/c.jpg', 0)]
# a has another person, who is no hit; d shows nobody of whom anything is said.
PEOPLE = [*HITS, box('images/a.jpg', 40), box('images/d.jpg', 0)]


def entry(query, hits, marks):
    names = {'R': 'right', 'W': 'wrong', '-': None}
    hits = [
        dict(rank=rank, **hit, similarity=1 - rank / 10, mark=names[mark])
        for rank, (hit, mark) in enumerate(zip(hits, marks, strict=True), start=1)
    ]
    return dict(query=query, hits=hits)


def write(path, *queries, report='0123456789abcdef', people=PEOPLE):
    content = dict(format='mmps_kd marks 1', report=report, queries=queries, people=people)
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def run(repo_root, monkeypatch, capsys):
    """Run a tool in this process; gives what it ends with, 0 or a message, and what it printed."""

    def run(tool, *arguments):
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(repo_root / 'tools' / tool), run_name='__main__')
        return stopped.value.code, capsys.readouterr().out

    return run


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'images').mkdir()
    for name in 'qabcd':
        Image.new('RGB', (100, 60)).save(tmp_path / f'images/{name}.jpg')
    (tmp_path / 'report.html').write_text(REPORT.format('0123456789abcdef'))
    return tmp_path


def test_precision_at_k(run, tmp_path):
    second = entry([box('images/d.jpg', 0)], HITS[:2], '-W')
    marks = write(tmp_path / 'marks.json', entry(QUERY, HITS, MARKS), second)
    code, output = run('eval_results.py', 'marks', marks, '--topk', 1, 2, 3, 10, '--out', tmp_path / 'out.json')
    assert code == 0
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in output.splitlines() if '|' in line]
    assert cells == [
        ['query', 'P@1 (marked)', 'P@2 (marked)', 'P@3 (marked)', 'P@10 (marked)'],
        ['q.jpg', '100.0 (1)', '50.0 (2)', '50.0 (2)', '66.7 (3)'],
        ['d.jpg', '- (0)', '0.0 (1)', '0.0 (1)', '0.0 (1)'],
        ['mean', '100.0 (1 queries)', '25.0 (2 queries)', '25.0 (2 queries)', '33.3 (2 queries)'],
    ]
    figures = json.loads((tmp_path / 'out.json').read_text())
    assert figures['precision1'] == 1
    assert figures['precision10'] == pytest.approx(1 / 3)
    assert figures['queries'][0]['marked'] == {'1': 1, '2': 2, '3': 2, '10': 3}
    assert figures['queries'][1]['precision'] == {'1': None, '2': 0, '3': 0, '10': 0}


def test_two_people_mark_one_report(run, tmp_path):
    one = write(tmp_path / '1.json', entry(QUERY, HITS, 'R---'))
    other = write(tmp_path / '2.json', entry(QUERY, HITS, 'RW--'))
    code, output = run('eval_results.py', 'marks', one, other, '--topk', 2)
    assert code == 0
    assert output.count('q.jpg') == 1
    assert '50.0 (2)' in output
    contrary = write(tmp_path / '3.json', entry(QUERY, HITS, 'RR--'))
    code, _ = run('eval_results.py', 'marks', other, contrary)
    assert code == (
        f'error: {contrary} contradicts the marks before it: images/b.jpg, box 0 5 10 35.5 is right in one and wrong '
        'in the other'
    )


@pytest.mark.parametrize(
    'content',
    [
        '',
        '[]',
        '{"format": "mmps_kd marks 1"}',
        '{"format": "mmps_kd marks 1", "report": "a", "people": [], "queries": [{"query": [], "hits": []}]}',
        json.dumps(dict(format='mmps_kd marks 1', report='a', people=[], queries=[entry(QUERY, HITS[:1] * 2, 'RW')])),
        json.dumps(dict(format='mmps_kd marks 1', report='a', people=[], queries=[entry(QUERY, HITS, MARKS)])).replace(
            '35.5', '"x"'
        ),
        json.dumps(dict(format='mmps_kd marks 1', report='a', people=[], queries=[entry(QUERY, HITS, MARKS)])).replace(
            'wrong', 'maybe'
        ),
    ],
)
def test_damaged_file(run, tmp_path, content):
    (tmp_path / 'marks.json').write_text(content)
    code, _ = run('eval_results.py', 'marks', tmp_path / 'marks.json')
    assert code == f'error: {tmp_path}/marks.json is damaged, or no marks that a report saved: save them again'


def test_other_errors(run, folder):
    marks = write(folder / 'marks.json', entry(QUERY, HITS, MARKS), report='another')
    code, _ = run('eval_results.py', 'marks', marks, '--report', folder / 'report.html')
    assert code.startswith(f'error: {marks} has the marks of another report than {folder}/report.html')
    code, _ = run('eval_results.py', 'marks', folder / 'none.json')
    assert code == f'error: {folder}/none.json cannot be read: No such file or directory'
    code, _ = run('eval_results.py', 'marks', write(folder / 'none.json', entry(QUERY, HITS, '----')))
    assert code.endswith('has no marked hit: mark some in the report, and save again')
    code, _ = run('eval_results.py', 'marks', marks, '--report', folder / 'images/q.jpg')
    assert code == f'error: {folder}/images/q.jpg is no report of tools/search.py'


def test_marks_become_annotations(run, folder):
    # A search for c, who was right for q, in the browser: it finds d, too.
    again = entry([HITS[3]], [box('images/d.jpg', 0), HITS[1]], 'RW')
    marks = write(folder / 'marks.json', entry(QUERY, HITS, MARKS), again)
    code, output = run('dataset_tools/marks2json.py', marks, '--images', folder / 'images', '--out', folder / 'o.json')
    assert code == 0, output
    assert output.splitlines() == [
        f'{folder}/o.json: 1 identities in 4 boxes, 1 people without identity and 2 ignored regions in 5 images',
        'note: in 1 images of queries, which were not searched, only the query is annotated',
    ]
    content = json.loads((folder / 'o.json').read_text())
    names = {image['id']: image['file_name'] for image in content['images']}
    assert {(image['height'], image['width']) for image in content['images']} == {(60, 100)}
    found = {
        (names[person['image_id']], *person['bbox']): (person.get('person_id'), person.get('ignore'))
        for person in content['annotations']
    }
    assert found == {
        ('q.jpg', 0, 5, 10, 30.5): (0, None),
        ('a.jpg', 0, 5, 10, 30.5): (0, None),
        ('c.jpg', 0, 5, 10, 30.5): (0, None),
        ('d.jpg', 0, 5, 10, 30.5): (0, None),
        ('b.jpg', 0, 5, 10, 30.5): (-1, None),  # wrong
        ('a.jpg', 20, 5, 10, 30.5): (None, 1),  # a hit that is not marked
        ('a.jpg', 40, 5, 10, 30.5): (None, 1),  # no hit
    }
    dataset = CustomPersonSearchDataset(
        ann_file='o.json', data_root=str(folder), data_prefix=dict(img='images'), split='train', pipeline=[]
    )
    people = [person for info in dataset.load_data_list() for person in info['instances']]
    assert np.bincount([person['ignore_flag'] for person in people]).tolist() == [5, 2]


def test_contradictory_marks(run, folder):
    # c is q's person, and q's hit b is right for c, but b is wrong for q.
    again = entry([HITS[3]], [HITS[1]], 'R')
    marks = write(folder / 'marks.json', entry(QUERY, HITS, MARKS), again)
    code, _ = run('dataset_tools/marks2json.py', marks, '--images', folder / 'images', '--out', folder / 'o.json')
    assert code == (
        'error: contradictory marks: images/b.jpg, box 0 5 10 35.5 is marked wrong for the query in images/q.jpg, and '
        'the same person by other marks: correct one of them'
    )
    assert not (folder / 'o.json').exists()


def test_marks_saved_elsewhere_need_their_report(run, folder, tmp_path_factory):
    downloads = tmp_path_factory.mktemp('downloads')
    marks = write(downloads / 'marks.json', entry(QUERY, HITS, MARKS))
    arguments = [marks, '--images', folder / 'images', '--out', downloads / 'o.json']
    code, _ = run('dataset_tools/marks2json.py', *arguments)
    assert code.startswith(f'error: images/a.jpg of the marks is not in {folder}/images: name the folder of the images')
    code, _ = run('dataset_tools/marks2json.py', *arguments, '--report', folder / 'report.html')
    assert code == 0
    assert len(json.loads((downloads / 'o.json').read_text())['images']) == 4
