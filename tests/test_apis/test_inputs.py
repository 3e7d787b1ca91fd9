"""Inputs become scenes."""

import os

import cv2
import numpy as np
import pytest

from mmps_kd.apis.inputs import Scenes
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
    return [int(scene.read()[0, 0, 0]) for scene in Scenes(inputs)]


def test_a_folder_stands_for_its_images_by_name(folder):
    assert [scene.name for scene in Scenes(folder)] == [f'{folder}/{name}' for name in ('a.png', 'b.png', 'c.bmp')]
    assert values(str(folder)) == [10, 20, 30]
    assert len(Scenes(folder)) == 3


def test_patterns_files_and_arrays(folder):
    assert values(f'{folder}/*.png') == [10, 20]
    assert values([folder / 'c.bmp', f'{folder}/[a-b].png']) == [30, 10, 20]
    assert values(picture(7)) == [7]
    assert [scene.name for scene in Scenes([picture(7), folder / 'a.png', picture(8)])] == [
        'array 0',
        'array 2',
        f'{folder}/a.png',
    ]


def test_each_file_once(folder):
    assert values([folder / 'b.png', folder]) == [20, 10, 30]


def test_relative_paths_get_absolute_names(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert [scene.name for scene in Scenes('a.png')] == [f'{folder}/a.png']


def test_pixels_are_blue_green_red_as_stored(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    (scene,) = Scenes(tmp_path / 'a.png')
    assert np.array_equal(scene.read(), image)


def test_scenes_can_be_gone_through_again(folder):
    scenes = Scenes(folder)
    assert [scene.stamp for scene in scenes] == [scene.stamp for scene in scenes]


def test_the_stamp_tells_of_a_change(folder):
    path = folder / 'a.png'
    (before,) = Scenes(path)
    os.utime(path, ns=(0, 0))
    (after,) = Scenes(path)
    assert before.stamp != after.stamp
    (one,), (two,), (again,) = Scenes(picture(1)), Scenes(picture(2)), Scenes(picture(1))
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
        Scenes(inputs)


def test_stride_below_one(folder):
    with pytest.raises(UserError, match='frame_stride must be at least 1, not 0'):
        Scenes(folder, 0)
