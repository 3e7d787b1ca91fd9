"""A data set with everything wrong, and sound ones."""

import json
import runpy
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mmps_kd.testing.synthetic import write_dataset

ROOT = Path(__file__).resolve().parents[2]
TOOL = 'tools/dataset_tools/check_dataset.py'
NOISE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'cache'))


@pytest.fixture
def check(monkeypatch, tmp_path, capsys):
    """``check(layout, root, *options)``: exit code, lines on stdout and the report, None without one."""

    def check(*arguments):
        out = tmp_path / 'report.json'
        out.unlink(missing_ok=True)
        monkeypatch.setattr(sys, 'argv', [TOOL, *map(str, arguments), '--out', str(out), '--jobs', '2'])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(ROOT / TOOL), run_name='__main__')
        report = json.loads(out.read_text()) if out.exists() else None
        return stopped.value.code, capsys.readouterr().out.splitlines(), report

    return check


def findings(report, serious):
    return {(f['split'], f['what'], f['file']) for f in report['findings'] if f['serious'] is serious}


def counts(report):
    return {(c['split'], c['what']): c['found'] for c in report['counts']}


def write_custom(root, files, train, test, queries=()):
    """Files: name to bytes or array; people: (image, x, y, w, h, person id or None)."""
    (root / 'images').mkdir(parents=True)
    for name, content in files.items():
        if content is None:
            continue
        if not isinstance(content, bytes):
            content = cv2.imencode(Path(name).suffix, content)[1].tobytes()
        (root / 'images' / name).write_bytes(content)
    for split, people in (('train', train), ('test', test)):
        names = sorted({name for name, *_ in people})
        images = [dict(id=i, file_name=name) for i, name in enumerate(names)]
        annotations = [
            dict(id=n, image_id=names.index(name), bbox=box) | ({} if pid is None else dict(person_id=pid))
            for n, (name, *box, pid) in enumerate(people)
            if box
        ]
        (root / f'{split}.json').write_text(json.dumps(dict(images=images, annotations=annotations)))
    (root / 'queries.txt').write_text(''.join(f'{line}\n' for line in queries))


def as_bytes(path, **options):
    Image.fromarray(NOISE).convert(options.pop('mode', 'RGB')).save(path, **options)
    return path.read_bytes()


@pytest.fixture
def bad(tmp_path):
    """A custom data set in which everything is wrong once."""
    jpeg = cv2.imencode('.jpg', NOISE)[1].tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = dict(save_all=True, append_images=[Image.fromarray(NOISE[::-1])])
    files = {
        'fine.jpg': NOISE,
        'both.jpg': NOISE,
        'missing.jpg': None,
        'empty.jpg': b'',
        'truncated.jpg': jpeg[: len(jpeg) // 2],
        'page.jpg': b'<html>404</html>',
        'grey.jpg': as_bytes(tmp_path / 'g.jpg', mode='L'),
        'cmyk.jpg': as_bytes(tmp_path / 'c.jpg', mode='CMYK'),
        'grey16.png': NOISE[..., 0].astype(np.uint16),
        'turned.jpg': as_bytes(tmp_path / 't.jpg', exif=exif),
        'animated.gif': as_bytes(tmp_path / 'a.gif', **frames),
        't1.jpg': NOISE,
        't2.jpg': NOISE,
    }
    train = [
        *((name, 5, 5, 10, 20, 1) for name in files if name[0] != 't' or len(name) > 6),
        ('fine.jpg', 79, 5, 10, 20, 2),
        ('fine.jpg', 5, 5, 0, 20, 1),
        ('fine.jpg', 80, 5, 10, 20, 1),
        ('nobody.jpg', None),
        ('strangers.jpg', 1, 1, 5, 5, None),
    ]
    files |= {'nobody.jpg': NOISE, 'strangers.jpg': NOISE}
    test = [
        ('both.jpg', 5, 5, 10, 20, 1),
        ('t1.jpg', 5, 5, 10, 20, 1),
        ('t2.jpg', 5, 5, 10, 20, 9),
        ('t1.jpg', 30, 5, 10, 20, 9),
    ]
    write_custom(tmp_path / 'bad', files, train, test, ['1 5 5 10 20 t1.jpg', '9 90 5 10 20 t2.jpg'])
    return tmp_path / 'bad'


def test_everything_wrong_is_found_once(check, bad):
    code, lines, report = check('custom', bad, '--query-file', 'queries.txt')
    assert code == 1
    assert findings(report, serious=True) == {
        ('train', 'missing image', 'missing.jpg'),
        ('train', 'damaged image', 'empty.jpg'),
        ('train', 'damaged image', 'truncated.jpg'),
        ('train', 'damaged image', 'page.jpg'),
        ('train', 'box of zero width or height: dropped', 'fine.jpg'),
        ('train', 'box outside its image: dropped', 'fine.jpg'),
        ('test', 'query box empty or outside its image', 't2.jpg'),
        ('both', 'image in training and test', 'both.jpg'),
    }
    assert findings(report, serious=False) == {
        ('train', 'not RGB of 8 bits: converted', 'grey.jpg'),
        ('train', 'not RGB of 8 bits: converted', 'cmyk.jpg'),
        ('train', 'not RGB of 8 bits: converted', 'grey16.png'),
        ('train', 'EXIF says to turn it: read as stored', 'turned.jpg'),
        ('train', 'animated: the first picture is taken', 'animated.gif'),
        ('train', 'box hangs over the edge: cut', 'fine.jpg'),
        ('train', 'nobody in it', 'nobody.jpg'),
        ('train', 'only unlabelled people in it', 'strangers.jpg'),
        ('train', 'identity seen in one image only', 'fine.jpg'),
        ('both', 'identity in training and test', 'identity 1'),
    }
    assert len(report['findings']) == 18
    assert 'to be turned by EXIF, their boxes must be in pixels as stored: turned.jpg' in lines
    problems = [line for line in lines if line.startswith(('train: ', 'test: ', 'both: '))]
    assert len(problems) == 8 and lines[-1] == '8 problems'
    assert any('fine.jpg: box outside its image: dropped: [80.0, 5.0, 90.0, 25.0]' in line for line in problems)
    assert counts(report)['train', 'images'] == 13 and counts(report)['test', 'queries'] == 2


def test_one_split_can_be_asked_for(check, bad):
    code, _, report = check('custom', bad, '--query-file', 'queries.txt', '--split', 'test')
    assert code == 1 and {f['split'] for f in report['findings']} == {'test'}


@pytest.mark.parametrize('layout', ['cuhk-sysu', 'prw'])
def test_synthetic_data_is_sound_and_differs_from_the_official(check, tmp_path, layout):
    root = tmp_path / layout
    write_dataset(root, layout, 'tiny')
    code, lines, report = check(layout, root)
    assert code == 0 and findings(report, serious=True) == set()
    official = [c for c in report['counts'] if c['official'] is not None]
    assert len(official) == 4
    assert '\n'.join(lines).count('differs from the official data set') == 4
    assert counts(report)['train', 'images'] + counts(report)['test', 'images'] == 24
    assert lines[-1] == 'no problems'


def test_damage_in_an_official_layout(check, tmp_path):
    root = tmp_path / 'cuhk'
    write_dataset(root, 'cuhk-sysu', 'tiny')
    first = sorted((root / 'Image/SSM').iterdir())[0]
    first.write_bytes(first.read_bytes()[:3000])
    (root / 'annotation/test/train_test/TestG50.mat').write_bytes(b'no such thing')
    code, lines, report = check('cuhk-sysu', root)
    assert code == 1
    what = Counter(f['what'] for f in report['findings'] if f['serious'])
    assert what['annotations cannot be used'] == 1
    assert any('TestG50.mat is truncated, damaged or not the official file' in line for line in lines)
    assert [f['file'] for f in report['findings'] if f['what'] == 'damaged image'] in ([first.name], [])


def test_a_missing_folder_is_one_line(check, tmp_path):
    assert check('prw', tmp_path / 'nowhere')[0] == f'error: data set {tmp_path / "nowhere"}: no such folder'


def test_hostile_names_leave_the_terminal_alone(check, bad):
    content = json.loads((bad / 'train.json').read_text())
    content['images'][0]['file_name'] = '\x1b[2Jwiped\n.jpg'
    (bad / 'train.json').write_text(json.dumps(content))
    code, lines, _ = check('custom', bad)
    assert code == 1 and not any('\x1b' in line for line in lines)
    assert any(r"names '\x1b[2Jwiped\n.jpg', which holds a control character" in line for line in lines)


def test_all_that_is_wrong_in_the_annotations_is_listed(check, tmp_path):
    people = [('a.jpg', 1, 1, 9, 9, 1), ('b.jpg', 1, 1, 9, 9, 1), ('a.jpg', 20, 1, 9, 9, 2)]
    write_custom(tmp_path / 'data', {'a.jpg': NOISE, 'b.jpg': NOISE}, people, people)
    content = json.loads((tmp_path / 'data/train.json').read_text())
    for annotation, faults in zip(content['annotations'], (dict(id=2), dict(bbox=None), {}), strict=True):
        annotation.update(faults)
    (tmp_path / 'data/train.json').write_text(json.dumps(content))
    code, lines, report = check('custom', tmp_path / 'data', '--split', 'train')
    details = [f['detail'].partition('train.json: ')[2] for f in report['findings']]
    assert code == 1 and details == [
        'annotation 1 has no "bbox"',
        'several entries of "annotations" have the same "id" 2; number them differently',
    ]
    assert sum('annotations cannot be used' in line for line in lines if line.startswith('train:')) == 2


def test_classes_sizes_names_and_absent_queries(check, tmp_path):
    root, names = tmp_path / 'data', ('a.jpg', 'b.jpg', 'c.jpg')
    cars = [(name, 1, 1, 9, 9, 1) for name in names]
    write_custom(root, {'a.jpg': NOISE, 'b.jpg': NOISE, 'c.jpg': NOISE}, cars, [*cars, ('a.jpg', 30, 1, 9, 9, 2)])
    for split in ('train', 'test'):
        content = json.loads((root / f'{split}.json').read_text())
        content['categories'] = [dict(id=1, name='car'), dict(id=2, name='person')]
        content['annotations'] += [dict(id=90 + i, image_id=i, bbox=[9, 9, 9, 9], category_id=2) for i in range(3)]
        for annotation in content['annotations']:
            annotation.setdefault('category_id', 1)
        for i, image in enumerate(content['images']):
            image.update(dict(width=70 + i, height=60) if split == 'train' else dict(width=-1, height=None))
        content['images'][2]['file_name'] = 'C.JPG'
        content['queries'] = [dict(annotation_id=0), dict(annotation_id=3)] if split == 'test' else None
        (root / f'{split}.json').write_text(json.dumps(content))
    code, _, report = check('custom', root, '--class', 'car')
    assert {f['what'] for f in report['findings'] if f['split'] == 'test' and f['serious']} == {
        'annotations cannot be used'
    }
    code, lines, report = check('custom', root, '--class', 'car', '--skip-absent-queries')
    found = Counter((f['split'], f['what']) for f in report['findings'])
    assert found['train', 'size differs'] == 2
    assert found['train', 'left out 3 annotations of other categories: 3 person'] == 1
    assert found['test', 'queries left out: their person is nowhere in the gallery'] == 1
    assert found['test', 'missing image'] == 1 and found['test', 'size differs'] == 0
    assert any('C.JPG: missing image: not in' in line and "(there is 'c.jpg')" in line for line in lines)
    assert counts(report)['test', 'queries'] == 1 and counts(report)['train', 'boxes'] == 3


def test_cameras_and_galleries(check, tmp_path):
    root, names = tmp_path / 'data', ('a.jpg', 'b.jpg', 'c.jpg')
    people = [(name, 1, 1, 9, 9, 1) for name in names]
    write_custom(root, dict.fromkeys(names, NOISE), people, people)

    def problems(cameras, galleries, *options):
        content = json.loads((root / 'test.json').read_text())
        for image, camera in zip(content['images'], cameras, strict=True):
            image['camera'] = camera
        content['queries'] = [dict(annotation_id=i, gallery=gallery) for i, gallery in enumerate(galleries)]
        (root / 'test.json').write_text(json.dumps(content))
        code, lines, report = check('custom', root, '--split', 'test', *options)
        found = [f['detail'].partition('test.json: ')[2] for f in report['findings'] if f['serious']]
        assert code == (1 if found else 0)
        assert len([line for line in lines if line.startswith('test: ')]) == len(found)
        return found

    assert problems(['door', 2, [3]], [['z.jpg'], ['a.jpg', 0], None]) == [
        'image 2 (c.jpg): a camera is text or a whole number, got [3]',
        "query 0: its gallery names 'z.jpg', which is not among the images",
        'query 1: its gallery names a.jpg several times: list each image once',
    ]
    assert problems(['door', 'door', None], [['b.jpg']]) == []
    (found,) = problems(['door', 'door', None], [['b.jpg']], '--cross-camera')
    assert found == 'image c.jpg has no "camera", which cross_camera needs: name it for each image'
    (found,) = problems(['door', 'door', 'yard'], [['b.jpg']], '--cross-camera')
    assert found.startswith('query absent from the gallery: 1 of 1')
    assert problems(['door', 'door', 'yard'], [['b.jpg', 'c.jpg']], '--cross-camera') == []
    refused = check('cuhk-sysu', root, '--cross-camera')[0]
    assert refused == 'error: --cross-camera is an option of custom and prw: CUHK-SYSU lists its galleries'


INTERRUPTED = """
import os, runpy, signal, sys
from mmps_kd.datasets import check
# A shell's background job, which tests may be part of, starts with this signal ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
original, calls = check.check_image, []

def interrupt(*arguments):
    calls.append(arguments)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGINT)
    return original(*arguments)

check.check_image = interrupt
sys.argv = ['check_dataset.py', *sys.argv[1:]]
try:
    runpy.run_path({tool!r}, run_name='__main__')
finally:
    print(len(calls), 'images')
"""


@pytest.mark.slow
def test_ctrl_c_stops_at_once_and_writes_nothing(tmp_path):
    files = {f'{i}.png': NOISE for i in range(400)}
    write_custom(tmp_path / 'data', files, [(name, 1, 1, 9, 9, 1) for name in files], [])
    command = [sys.executable, '-c', INTERRUPTED.format(tool=str(ROOT / TOOL)), 'custom', str(tmp_path / 'data')]
    command += ['--split', 'train', '--jobs', '1', '--out', str(tmp_path / 'report.json')]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 130, done.stderr
    assert done.stderr.splitlines()[-1] == 'stopped: nothing is reported'
    assert 'Traceback' not in done.stderr and not (tmp_path / 'report.json').exists()
    assert int(done.stdout.split()[-2]) < 400


def test_a_damaged_exif_block_is_no_damaged_image(check, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = 'Maker of cameras'
    content = as_bytes(tmp_path / 't.jpg', exif=exif)
    start = content.index(b'Exif') + 6
    files = {f'{i}.jpg': content[: start + 8 + i] + b'\xff' * 9 + content[start + 17 + i :] for i in range(0, 20, 3)}
    people = [(name, 5, 5, 10, 20, 1) for name in files]
    write_custom(tmp_path / 'data', files, people, [])
    code, lines, _ = check('custom', tmp_path / 'data', '--split', 'train')
    assert code == 0 and lines[-1] == 'no problems'
