"""tools/search.py as a user runs it: the same embeddings as tools/test.py, and what happens when it is stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import forked_tool
import numpy as np
import pytest
from PIL import Image

from mmps_kd.apis import PersonSearchInferencer
from mmps_kd.datasets.image_files import decode_image
from mmps_kd.evaluation.functional import load_results
from mmps_kd.gallery import Gallery

BOX = ['40', '60', '90', '200']


@pytest.fixture
def gallery(tiny_cuhk_sysu, tmp_path):
    """Twelve images of people."""
    folder = tmp_path / 'gallery'
    folder.mkdir()
    for path in sorted((tiny_cuhk_sysu / 'Image/SSM').iterdir())[:12]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def query(tiny_cuhk_sysu):
    return sorted((tiny_cuhk_sysu / 'Image/SSM').iterdir())[-1]


@pytest.fixture
def search(repo_root, search_files, query, gallery, tmp_path):
    """Run the tool in a process of its own; the model stops the process by a signal at its n-th call.

    Returns the exit code, what was printed, and how often the model was called.
    """
    tool, log, count = str(repo_root / 'tools/search.py'), tmp_path / 'log', tmp_path / 'calls'

    def run(out, stop_at=0, number=signal.SIGINT):
        count.write_text('')
        files = ['--query', str(query), '--box', *BOX, '--gallery', str(gallery), '--out', str(out)]
        arguments = [*map(str, search_files), *files, '--score-thr', '0', '--device', 'cpu']
        before = partial(forked_tool.stop_at_call, count, stop_at, number)
        code = forked_tool.run(tool, arguments, log, {}, before)
        return code, log.read_text(), count.stat().st_size

    return run


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_loses_nothing(search, tmp_path, number):
    straight, out = tmp_path / 'straight', tmp_path / 'out'
    assert search(straight)[::2] == (0, 12)
    code, output, calls = search(out, stop_at=8, number=number)
    assert (code, calls) == (128 + number, 8)
    assert 'Traceback' not in output
    (index,) = out.iterdir()
    assert output.splitlines()[-1] == f'{index} keeps 7 images: the same command goes on from there'
    code, output, calls = search(out)
    assert (code, calls) == (0, 5)
    assert (out / 'results.json').read_text() == (straight / 'results.json').read_text()
    assert search(out)[::2] == (0, 0)


def test_what_is_printed_and_written(search, gallery, tmp_path):
    (gallery / 's0.jpg').touch()
    code, output, calls = search(tmp_path / 'out')
    assert (code, calls) == (0, 12)
    result = json.loads((tmp_path / 'out/results.json').read_text())
    lines = output.splitlines()
    best = result['matches'][0]
    assert lines[0].startswith('  1  similarity ')
    assert lines[0].endswith(best['name'])
    assert lines[10:12] == [
        'skipped 1 of 13 images:',
        f'  {gallery}/s0.jpg cannot be read as an image: it is empty',
    ]
    assert lines[12] == f'{tmp_path}/out/ranking.png: 36 people in 12 images searched'
    assert Image.open(tmp_path / 'out/ranking.png').width > 1000
    report = (tmp_path / 'out/report.html').read_text()
    assert report.count('<li class="card"') == 11  # and the template
    assert '36 people in 12 images searched' in report


def test_the_index_can_stand_elsewhere(run_tool, search_files, query, gallery, tmp_path):
    files = ['--query', query, '--box', *BOX, '--gallery', gallery, '--out', tmp_path / 'out']
    options = ['--index-dir', tmp_path / 'index', '--score-thr', '0']
    run_tool('search.py', *search_files, *files, *options, '--no-report')
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {'ranking.png', 'results.csv', 'results.json'}
    (index,) = (tmp_path / 'index').iterdir()
    assert len(Gallery(index)) == 12


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(box=['900', '60', '990', '200']), 'box 900 60 990 200 has no part in the image of '),
        (dict(gallery='absent'), 'absent: there is no such file or folder'),
        (dict(config='qeeps_r18-quarter_mini'), 'qeeps_r18-quarter_mini.py is a query-guided model'),
        (dict(config='detector_r50_20e_cuhk-sysu'), 'has no re-identification head'),
        (dict(checkpoint='absent.pth'), 'there is no checkpoint absent.pth'),
        (dict(more=['--score-thr', '1.1']), 'nobody was found with a score of at least 1.1 in the 12 images'),
    ],
)
def test_bad_input_is_one_line(run_tool, search_files, query, gallery, tmp_path, change, message):
    given = dict(config=search_files[0], checkpoint=search_files[1], box=BOX, gallery=gallery, more=[]) | change
    files = ['--query', query, '--box', *given['box'], '--gallery', given['gallery'], '--out', tmp_path / 'out']
    line = run_tool('search.py', given['config'], given['checkpoint'], *files, *given['more'])
    assert line.startswith('error: ')
    assert message in line
    assert '\n' not in line


@pytest.fixture
def run(run_tool, search_files, gallery, tmp_path):
    """Run the tool in this process on the gallery, with further arguments; gives its exit code or message."""

    def run(*arguments):
        given = ['--gallery', gallery, '--out', tmp_path / 'out', '--score-thr', '0', '--device', 'cpu']
        return run_tool('search.py', *search_files, *given, *arguments)

    return run


OTHER_BOX = ['10', '20', '60', '140']


def matches(folder):
    return json.loads((folder / 'results.json').read_text())['matches']


def test_boxes_follow_their_images(run, query, gallery, tmp_path, search_files, capsys):
    out, second = tmp_path / 'out', gallery / 's1.jpg'
    assert run('--query', query, '--box', *BOX, '--query', second, '--box', *OTHER_BOX) == 0
    inferencer = PersonSearchInferencer(*search_files, device='cpu', show_progress=False)
    expected = inferencer.search(
        [query, second], [[float(x) for x in BOX], [float(x) for x in OTHER_BOX]], gallery, score_thr=0
    )
    assert matches(out) == expected.to_dict()['matches']
    assert '2 boxes show one person; --each searches for each by itself\n' in capsys.readouterr().out
    assert run('--box', *BOX, '--query', query, '--box', *OTHER_BOX) == 0  # one image: the order is free
    queries = json.loads((out / 'results.json').read_text())['queries']
    assert [item['box'] for item in queries] == [[float(x) for x in box] for box in (BOX, OTHER_BOX)]


def test_each_box_by_itself(run, query, gallery, tmp_path):
    out = tmp_path / 'out'
    assert run('--query', query, '--box', *BOX, '--box', *OTHER_BOX, '--each') == 0
    both = [json.loads((out / number / 'results.json').read_text()) for number in '12']
    assert [result['query']['box'] for result in both] == [[float(x) for x in box] for box in (BOX, OTHER_BOX)]
    folders = sorted(path.name for path in out.iterdir() if path.is_dir())
    assert folders[:2] == ['1', '2']
    assert [name.startswith('gallery_') for name in folders[2:]] == [True]
    assert run('--query', query, '--box', *OTHER_BOX) == 0
    assert matches(out) == both[1]['matches']
    # A bad box is named before anything is searched.
    before = (out / '1/results.json').stat().st_mtime_ns
    message = run('--query', query, '--box', *BOX, '--box', '900', '0', '990', '10', '--each')
    assert message.startswith('error: box 900 0 990 10 has no part in the image')
    assert (out / '1/results.json').stat().st_mtime_ns == before


def test_a_match_of_an_earlier_search(run, query, tmp_path):
    out = tmp_path / 'out'
    assert run('--query', query, '--box', *BOX) == 0
    second, third = matches(out)[1:3]
    assert run('--query', f'{out}/results.json#2', '--query', f'{out}/results.json#3', '--out', tmp_path / 'next') == 0
    result = json.loads((tmp_path / 'next/results.json').read_text())
    assert result['queries'] == [dict(name=item['name'], box=item['box']) for item in (second, third)]


def test_not_found_is_an_answer(run, query, tmp_path, capsys):
    assert run('--query', query, '--box', *BOX, '--min-similarity', '1') == 0
    assert matches(tmp_path / 'out') == []
    assert 'not found: nobody has a similarity of at least 1\n' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--query', 'a.jpg', 'b.jpg', '--box', *BOX], 'b.jpg belongs to no option: each --query takes one image'),
        (['--query', 'a.jpg'], '--query a.jpg has no box: write --box X1 Y1 X2 Y2 after it'),
        (['--query', 'a.jpg', '--query', 'b.jpg', '--box', *BOX], '--query a.jpg has no box'),
        (['--box', *BOX, '--query', 'a.jpg', '--query', 'b.jpg'], '--box comes before the first --query'),
        (['--query', 'r.json'], 'r.json needs the rank of a match: write r.json#1 for the first'),
        (['--query', 'r.json#1', '--box', *BOX], 'r.json#1 has its own box: leave out --box'),
        (['--query', 'r.json#1'], 'r.json cannot be read: No such file or directory'),
        (['--query', 'a.jpg', '--box', *BOX], 'a.jpg: there is no such file'),
    ],
)
def test_images_and_boxes_that_do_not_fit(run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    line = run(*arguments)
    assert line.startswith(f'error: {message}')
    assert '\n' not in line


def test_a_damaged_index_is_one_line(run, query, tmp_path):
    assert run('--query', query, '--box', *BOX) == 0
    (index,) = (tmp_path / 'out').glob('gallery_*')
    for file in filter(Path.is_file, index.rglob('*')):
        file.write_bytes(file.read_bytes()[:-100])
    line = run('--query', query, '--box', *BOX)
    assert line.startswith(f'error: gallery {index} ')
    assert '\n' not in line


def test_a_gallery_without_its_images(run, run_tool, search_files, query, gallery, tmp_path, capsys):
    """As its images; by camera and time, and when the images are gone."""
    filled = tmp_path / 'filled'
    for number, path in enumerate(sorted(gallery.iterdir())):
        (gallery / 'ab'[number % 2]).mkdir(exist_ok=True)
        path.rename(gallery / 'ab'[number % 2] / path.name)
    fill = ['index', *search_files, gallery, '--gallery', filled, '--camera-folders', '--device', 'cpu']
    run_tool('gallery.py', *fill, '--score-thr', '0', '--num-workers', '0')
    given = ['--query', query, '--box', *BOX, '--rerank', '--topk', '5']
    assert run(*given) == 0
    by_images = matches(tmp_path / 'out')
    given += ['--gallery', filled, '--out', tmp_path / 'next']
    assert run(*given) == 0
    by_gallery = matches(tmp_path / 'next')
    assert [(m['name'], m['camera']) for m in by_gallery] == [
        (m['name'], Path(m['name']).parent.name) for m in by_images
    ]
    assert json.loads((tmp_path / 'next/results.json').read_text())['reranked'] == 1000
    files = {'ranking.png', 'report.html', 'results.csv', 'results.json'}
    assert {path.name for path in (tmp_path / 'next').iterdir()} == files
    shutil.rmtree(gallery)
    capsys.readouterr()
    assert run(*given, '--camera', 'b', '--out', tmp_path / 'b') == 0
    assert {match['camera'] for match in matches(tmp_path / 'b')} == {'b'}
    assert {path.name for path in (tmp_path / 'b').iterdir()} == {'results.csv', 'results.json'}
    output = capsys.readouterr()
    assert output.out.endswith(f'{tmp_path}/b/results.json: 18 people in 6 images searched\n')
    assert output.err == 'no ranking.png and no report: images of the gallery are not here, or have changed\n'
    for more, message in (
        (['--index-dir', tmp_path], '--index-dir is for images'),
        (['--camera', 'c'], f'gallery {filled} has no camera c: its cameras are a, b'),
        (['--after', '2024-05-06T07:08:09'], f'gallery {filled} has no image with a time'),
        (['--gallery', query.parent, '--camera', 'b'], 'camera, after and before are conditions on a gallery'),
        (
            ['--backend', 'onnxruntime', '--precision', 'bf16'],
            "precision='bf16' does not exist for backend onnxruntime",
        ),
        (['--precision', 'bf16'], f'gallery {filled} was made by another model'),
    ):
        line = run(*given, *more)
        assert line.startswith(f'error: {message}')
        assert '\n' not in line


@pytest.mark.slow
def test_embeddings_are_those_of_the_test_tool(repo_root, search_files, tiny_cuhk_sysu, tmp_path):
    tool, out = repo_root / 'tools/test.py', tmp_path / 'results.npz'
    command = [sys.executable, tool, *search_files, '--work-dir', tmp_path, '--out', out]
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    subprocess.run(command, env=env, check=True, capture_output=True)
    tested = load_results(out)
    images = tiny_cuhk_sysu / 'Image/SSM'
    inferencer = PersonSearchInferencer(*search_files, device='cpu', show_progress=False)
    found = inferencer.detect([images / name for name in tested.image_names], score_thr=0).scenes
    assert [len(source.people) for source in found] == tested.num_dets.tolist()
    assert np.concatenate([s.people.boxes for s in found]) == pytest.approx(tested.boxes[:, :4], abs=1e-3)
    assert np.concatenate([s.people.scores for s in found]) == pytest.approx(tested.boxes[:, 4], abs=1e-5)
    assert np.concatenate([s.people.embeddings for s in found]) == pytest.approx(tested.embeddings, abs=1e-4)
    queries = zip(tested.query_images, tested.query_boxes, strict=True)
    given = [inferencer.embed(decode_image(images / name), box) for name, box in queries]
    assert np.concatenate(given) == pytest.approx(tested.query_embeddings, abs=1e-4)
    assert np.ptp(tested.query_embeddings, axis=0).max() > 0.01, 'embeddings that are all alike would show nothing'
