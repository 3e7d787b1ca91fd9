"""Tracking annotations as a custom data set, by the tool as a user runs it."""

import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmdet.registry import DATASETS

TOOL = Path(__file__).resolve().parents[2] / 'tools/dataset_tools/mot2json.py'
# MOT17: frame, id, left, top, width, height, flag, class, visibility.
DOOR = """1,1,-4,11,20,40,1,1,1
1,2,51,11,20,40,1,1,0.2
2,1,11,11,20,40,1,1,0.9
2,3,31,11,20,40,0,1,1
3,1,13,11,20,40,1,1,1
3,9,41,1,30,60,1,8,1
3,8,61,1,10,10,1,3,1
"""
# MOT15: no class, three world coordinates.
YARD = '1,4,1,1,10,20,1,-1,-1,-1\n2,5,21,21,10,20,1,-1,-1,-1\n2,4,71,1,30,20,1,-1,-1,-1\n'


def write_frames(folder, count, suffix='.jpg'):
    folder.mkdir(parents=True)
    for number in range(1, count + 1):
        cv2.imwrite(str(folder / f'{number:06d}{suffix}'), np.full((60, 80, 3), 10 * number, np.uint8))


@pytest.fixture
def sequences(tmp_path):
    """Two sequences of 80x60 pixels, three and two frames."""
    write_frames(tmp_path / 'mot/door/img1', 3)
    (tmp_path / 'mot/door/gt').mkdir()
    (tmp_path / 'mot/door/gt/gt.txt').write_text(DOOR)
    write_frames(tmp_path / 'mot/yard/frames', 2, '.png')
    (tmp_path / 'mot/yard/gt.txt').write_text(YARD)
    (tmp_path / 'mot/yard/seqinfo.ini').write_text('[Sequence]\nname=yard\nimDir=frames\nimExt=.png\n')
    return [tmp_path / 'mot/door', tmp_path / 'mot/yard']


@pytest.fixture
def convert(sequences, tmp_path, monkeypatch):
    """Run the tool; gives the JSON, or the error's text."""

    def run(*options, of=sequences):
        out = tmp_path / 'mine/test.json'
        monkeypatch.setattr(sys, 'argv', ['mot2json.py', *map(str, of), '--out', str(out), *map(str, options)])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(TOOL), run_name='__main__')
        return json.loads(out.read_text()) if stopped.value.code == 0 else stopped.value.code

    return run


def boxes_of(content, name):
    (image,) = [image['id'] for image in content['images'] if image['file_name'] == name]
    people = [a for a in content['annotations'] if a['image_id'] == image]
    return [(a.get('person_id', 'ignored'), a['bbox']) for a in people]


def test_images_boxes_people(convert):
    content = convert()
    assert [(i['file_name'], i['camera'], i['frame'], i['height'], i['width']) for i in content['images']] == [
        ('door/000001.jpg', 'door', 1, 60, 80),
        ('door/000002.jpg', 'door', 2, 60, 80),
        ('door/000003.jpg', 'door', 3, 60, 80),
        ('yard/000001.png', 'yard', 1, 60, 80),
        ('yard/000002.png', 'yard', 2, 60, 80),
    ]
    # Pixels from 0, clipped to the image; a flag of 0 and distractors are ignored regions, cars are left out.
    assert boxes_of(content, 'door/000001.jpg') == [(0, [0, 10, 15, 40]), (1, [50, 10, 20, 40])]
    assert boxes_of(content, 'door/000002.jpg') == [(0, [10, 10, 20, 40]), ('ignored', [30, 10, 20, 40])]
    assert boxes_of(content, 'door/000003.jpg') == [(0, [12, 10, 20, 40]), ('ignored', [40, 0, 30, 60])]
    # 1, 2, 3, 8 and 9 of door are numbered before 4 and 5 of yard.
    assert boxes_of(content, 'yard/000002.png') == [(6, [20, 20, 10, 20]), (5, [70, 0, 10, 20])]
    assert all(a['ignore'] == 1 for a in content['annotations'] if 'person_id' not in a)


def test_stride_and_visibility(convert):
    content = convert('--stride', 2, '--min-visibility', 0.5, '--ignore-classes')
    assert [image['frame'] for image in content['images']] == [1, 3, 1]
    assert boxes_of(content, 'door/000001.jpg') == [(0, [0, 10, 15, 40]), ('ignored', [50, 10, 20, 40])]
    assert boxes_of(content, 'door/000003.jpg') == [(0, [12, 10, 20, 40])]


def test_pixels_may_be_counted_from_0(convert):
    content = convert('--zero-based')
    assert boxes_of(content, 'door/000001.jpg') == [(0, [0, 11, 16, 40]), (1, [51, 11, 20, 40])]


def test_sequences_of_one_camera(convert, tmp_path):
    (tmp_path / 'merge.txt').write_text('\ufeffdoor:1 yard:4\n', 'utf-8')
    content = convert('--cameras', 'north', 'south')
    assert [image['camera'] for image in content['images']] == ['north'] * 3 + ['south'] * 2
    assert 'nobody is seen by two cameras' in convert(
        '--cameras', 'north', 'north', '--merge', tmp_path / 'merge.txt', '--queries'
    )
    assert convert('--cameras', 'north') == 2  # argparse's exit code


def test_people_without_an_identity_are_not_one_person(convert, tmp_path):
    (tmp_path / 'mot/door/gt/gt.txt').write_text('1,-1,1,1,10,20,1,1,1\n1,-1,31,1,10,20,1,1,1\n1,7,61,1,10,20,1,1,1\n')
    content = convert()
    assert boxes_of(content, 'door/000001.jpg')[2] == (0, [60, 0, 10, 20])
    assert [set(annotation) for annotation in content['annotations'][:2]] == [
        {'id', 'image_id', 'category_id', 'bbox'}
    ] * 2


def test_lines_without_an_image_are_noted(convert, tmp_path, capsys):
    (tmp_path / 'mot/door/gt/gt.txt').write_text(DOOR + '9,1,1,1,9,9,1,1,1\n0,1,1,1,9,9,1,1,1\n4,1,1,1,9,9,1,1,1\n')
    convert('--stride', 2)
    note = capsys.readouterr().out.splitlines()[0]
    assert note.endswith('gt.txt, line 8: there is no image of frame 9; left out 1 such lines')
    convert()
    assert 'line 8: there is no image of frame 9; left out 3 such lines' in capsys.readouterr().out


def test_people_who_return_are_the_queries(convert, tmp_path):
    (tmp_path / 'merge.txt').write_text('door:1 yard:4  # the man in red\n')
    content = convert('--merge', tmp_path / 'merge.txt', '--queries')
    queried = [content['annotations'][query['annotation_id']] for query in content['queries']]
    # Of the fully visible boxes in door the largest is that of frame 3; in yard it is that of frame 1, before frame 2.
    assert [(a['person_id'], a['bbox']) for a in queried] == [(0, [12, 10, 20, 40]), (0, [0, 0, 10, 20])]
    dataset = DATASETS.build(
        dict(
            type='CustomPersonSearchDataset',
            data_root=str(tmp_path / 'mine'),
            ann_file='test.json',
            split='test',
            cross_camera=True,
        )
    )
    protocol = dataset.metainfo['evaluation'].main
    galleries = [protocol.of_query(query) for query in range(protocol.num_queries)]
    seen = [[protocol.gallery_images[i].split('/')[0] for i in gallery.entries] for gallery in galleries]
    assert seen == [['yard', 'yard'], ['door', 'door', 'door']]


def test_a_video(convert, sequences, tmp_path):
    folder = tmp_path / 'mot/film'
    folder.mkdir()
    (folder / 'gt.txt').write_text('3,1,11,11,20,40,1,1,1\n')
    writer = cv2.VideoWriter(str(folder / 'film.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10, (80, 60))
    for value in (20, 80, 140, 200):
        writer.write(np.full((60, 80, 3), value, np.uint8))
    writer.release()
    content = convert('--stride', 2, of=[folder])
    assert [image['frame'] for image in content['images']] == [1, 3]
    assert boxes_of(content, 'film/000003.jpg') == [(0, [10, 10, 20, 40])]
    pixels = cv2.imread(str(tmp_path / 'mine/images/film/000003.jpg'))
    assert pixels.shape == (60, 80, 3)
    assert abs(pixels.mean() - 140) < 5


@pytest.mark.parametrize(
    ('file', 'text', 'message'),
    [
        ('mot/door/gt/gt.txt', '1,1,5,5\n', 'gt.txt, line 1: expected frame, id, left'),
        ('mot/door/gt/gt.txt', '1,1,5,5,a,4,1,1,1\n', 'gt.txt, line 1: expected frame, id, left'),
        ('mot/door/gt/gt.txt', '1,1,5,5,nan,4,1,1,1\n', 'gt.txt, line 1: expected frame, id, left'),
        ('mot/door/gt/gt.txt', '\n1.5,1,5,5,4,4,1,1,1\n', 'gt.txt, line 2: expected frame, id, left'),
        (
            'mot/door/gt/gt.txt',
            DOOR + '2,1,5,5,4,4,1,1,1\n',
            'line 8: identity 1 is in frame 2 already, line 3: remove',
        ),
        ('mot/door/seqinfo.ini', 'imDir=img1\n', 'door/seqinfo.ini cannot be read: File contains no section headers'),
        ('mot/door/img1/thumb.jpg', '', 'img1/thumb.jpg: the name is no frame number, such as 000001'),
        ('mine/images/door', '', 'images/door is there already and is not '),
        ('merge.txt', 'door:1 yard:77\n', 'merge.txt, line 1: yard:77 is no identity of the sequences'),
        ('merge.txt', '\ndoor:1 door\n', 'merge.txt, line 2: door is no identity of the sequences'),
        ('merge.txt', 'door:1 yard:4\ndoor:1 yard:5\n', 'merge.txt, line 2: door:1 is on two lines'),
    ],
)
def test_wrong_files(convert, tmp_path, file, text, message):
    (tmp_path / 'merge.txt').write_text('')
    (tmp_path / 'mine/images').mkdir(parents=True)
    (tmp_path / file).write_text(text)
    assert message in convert('--merge', tmp_path / 'merge.txt')


def test_a_link_to_other_images_is_refused(convert, sequences, tmp_path):
    first = convert()
    assert convert() == first  # a second run finds its own links
    (tmp_path / 'mot/door').rename(tmp_path / 'door')
    assert 'images/door is there already and is not ' in convert(of=[tmp_path / 'door', sequences[1]])


def test_a_damaged_video(convert, tmp_path):
    folder = tmp_path / 'mot/film'
    folder.mkdir()
    (folder / 'gt.txt').write_text('1,1,11,11,20,40,1,1,1\n')
    (folder / 'film.avi').write_bytes(b'no video')
    assert 'film.avi cannot be read as a video' in convert(of=[folder])


def test_what_is_missing(convert, sequences, tmp_path):
    assert 'nobody is seen by two cameras' in convert('--queries')
    assert 'there is no merge file' in convert('--merge', tmp_path / 'none.txt')
    (sequences[1] / 'gt.txt').unlink()
    assert 'yard has no gt/gt.txt' in convert()
    (sequences[1] / 'gt.txt').write_text(YARD)
    (sequences[1] / 'seqinfo.ini').write_text('[Sequence]\nimDir=nowhere\n')
    assert 'yard has no folder nowhere and 0 videos' in convert()
    assert 'two sequences are called door' in convert(of=[sequences[0], sequences[0]])
