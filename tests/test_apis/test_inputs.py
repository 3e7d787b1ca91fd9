"""Inputs become images."""

import os

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from mmps_kd.apis.inputs import Sources
from mmps_kd.errors import UserError


def picture(value, size=(8, 12)):
    return np.full((*size, 3), value, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Three images, lossless, and what is none."""
    for name, value in (('b.png', 20), ('a.png', 10), ('c.bmp', 30)):
        cv2.imwrite(str(tmp_path / name), picture(value))
    (tmp_path / 'notes.txt').touch()
    (tmp_path / 'deeper.png').mkdir()
    return tmp_path


def values(inputs):
    return [int(source.read()[0, 0, 0]) for source in Sources(inputs)]


@pytest.fixture
def cameras(tmp_path):
    """One image in the folder, others in folders of cameras."""
    names = ['z.png', 'cam1/a.png', 'cam1/B.JPG', '[cam 2]/a.png', '[cam 2]/day 1/a.PNG', 'c/a.png', 'm/a.png']
    hidden = ['._z.png', '.trash/a.png', 'cam1/._a.png']
    for name in (*names, *hidden):
        (tmp_path / 'g' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'g' / name).write_bytes(cv2.imencode('.png', picture(5))[1].tobytes())
    return tmp_path / 'g'


def names_of(inputs, folder):
    return [source.name.removeprefix(f'{folder}/') for source in Sources(inputs)]


ALL = ['z.png', '[cam 2]/a.png', '[cam 2]/day 1/a.PNG', 'c/a.png', 'cam1/B.JPG', 'cam1/a.png', 'm/a.png']


def test_a_folder_stands_for_what_is_below_it_but_for_hidden_files(cameras):
    assert names_of(cameras, cameras) == ALL
    assert names_of([cameras / 'm', cameras], cameras) == ['m/a.png', *ALL[:-1]]


def test_each_folder_is_entered_once_whatever_links_lead_to_it(cameras, tmp_path):
    (cameras / 'cam1/up').symlink_to(cameras)
    (cameras / 'm/self').symlink_to('.')
    assert names_of(cameras, cameras) == ALL
    assert names_of(f'{cameras}/**/*.png', cameras) == [name for name in ALL if name != 'cam1/B.JPG']
    (tmp_path / 'elsewhere').mkdir()
    (cameras / 'c/a.png').rename(tmp_path / 'elsewhere/b.png')
    (cameras / 'n').symlink_to(tmp_path / 'elsewhere')
    assert names_of(cameras, cameras) == [name for name in ALL if name != 'c/a.png'] + ['n/b.png']


@pytest.mark.parametrize(
    ('pattern', 'expected'),
    [
        ('[cam 2]/*.png', ['[cam 2]/a.png']),
        ('[cam 2]/**/*.png', ['[cam 2]/a.png', '[cam 2]/day 1/a.PNG']),
        ('[cm]/[a-z].png', ['c/a.png', 'm/a.png']),
        ('*/a.png', ['[cam 2]/a.png', 'c/a.png', 'cam1/a.png', 'm/a.png']),
        ('*/[cam 2]/*.png', []),
        ('**/[cam 2]/*.png', ['[cam 2]/a.png']),
        ('**/*.jpg', ['cam1/B.JPG']),
        ('**', ALL),
        ('*.png', ['z.png']),
        ('.trash/*.png', ['.trash/a.png']),
    ],
)
def test_patterns(cameras, pattern, expected):
    if not expected:
        with pytest.raises(UserError, match='no image or video that fits it as a pattern'):
            Sources(f'{cameras}/{pattern}')
    else:
        assert names_of(f'{cameras}/{pattern}', cameras) == expected


def test_earlier_results_in_the_gallery_are_no_input(cameras):
    for folder in (cameras, cameras / 'report'):
        (folder / 'vis').mkdir(parents=True)
        for name in ('results.json', 'ranking.png', 'vis/0.jpg'):
            (folder / name).touch()
    (cameras / 'm/ranking.png').touch()
    assert names_of(cameras, cameras) == [*ALL, 'm/ranking.png']


def test_a_folder_that_cannot_be_read_is_named(cameras, monkeypatch):
    listdir = os.listdir

    def refuse(path):
        if path.endswith('cam1'):
            raise PermissionError(13, 'Permission denied')
        return listdir(path)

    monkeypatch.setattr(os, 'listdir', refuse)
    with pytest.raises(UserError, match='g/cam1 cannot be read: Permission denied'):
        Sources(cameras)


def test_videos_below_a_folder_are_inputs(cameras):
    (cameras / 'cam1/v.MP4').touch()
    assert names_of(cameras, cameras) == [*ALL[:-1], 'cam1/v.MP4#0', 'm/a.png']


@pytest.mark.parametrize('orientation', range(1, 9))
def test_photographs_are_read_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'a.png', exif=exif)
    (source,) = Sources(tmp_path / 'a.png')
    upright = ImageOps.exif_transpose(Image.open(tmp_path / 'a.png'))
    assert np.array_equal(source.read()[..., ::-1], upright)
    assert source.orientation == orientation
    assert [source.orientation for source in Sources(pixels)] == [1]


def test_a_folder_stands_for_its_images_by_name(folder):
    assert [source.name for source in Sources(folder)] == [f'{folder}/{name}' for name in ('a.png', 'b.png', 'c.bmp')]
    assert values(str(folder)) == [10, 20, 30]
    assert len(Sources(folder)) == 3


def test_patterns_files_and_arrays(folder):
    assert values(f'{folder}/*.png') == [10, 20]
    assert values([folder / 'c.bmp', f'{folder}/[a-b].png']) == [30, 10, 20]
    assert values(picture(7)) == [7]
    assert [source.name for source in Sources([picture(7), folder / 'a.png', picture(8)])] == [
        'array 0',
        'array 2',
        f'{folder}/a.png',
    ]


def test_each_file_once(folder):
    assert values([folder / 'b.png', folder]) == [20, 10, 30]


def test_relative_paths_get_absolute_names(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert [source.name for source in Sources('a.png')] == [f'{folder}/a.png']


def test_pixels_are_blue_green_red_as_stored(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    (source,) = Sources(tmp_path / 'a.png')
    assert np.array_equal(source.read(), image)


def test_scenes_can_be_gone_through_again(folder):
    sources = Sources(folder)
    assert [source.stamp for source in sources] == [source.stamp for source in sources]


def test_the_stamp_tells_of_a_change(folder):
    path = folder / 'a.png'
    (before,) = Sources(path)
    os.utime(path, ns=(0, 0))
    (after,) = Sources(path)
    assert before.stamp != after.stamp
    (one,), (two,), (again,) = Sources(picture(1)), Sources(picture(2)), Sources(picture(1))
    assert one.stamp == again.stamp != two.stamp


@pytest.mark.parametrize(
    ('inputs', 'message'),
    [
        ('absent.jpg', 'absent.jpg: there is no such file or folder'),
        ('*.gif', r'\*.gif: there is no such file or folder, and no image or video that fits it'),
        ('deeper.png', 'deeper.png holds no image'),
        ([], 'no images were given'),
        (picture(1)[..., :1], r'uint8 in BGR order, not \(8, 12, 1\) of uint8'),
        (picture(1) / 255, 'of float64'),
    ],
)
def test_inputs_that_are_nothing(folder, monkeypatch, inputs, message):
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=message):
        Sources(inputs)


def test_stride_below_one(folder):
    with pytest.raises(UserError, match='frame_stride must be at least 1, not 0'):
        Sources(folder, 0)
