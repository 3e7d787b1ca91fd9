"""Scenes are read, batched and, where damaged, set aside."""

import numpy as np
import pytest

from mmps_kd.apis.inputs import Source, batches, read_one, read_sources, require_some
from mmps_kd.apis.results import Skipped
from mmps_kd.datasets.image_files import DamagedImageError
from mmps_kd.errors import UserError


def source(name, shape=(2, 2, 3)):
    return Source(name, '', lambda: np.zeros(shape, dtype=np.uint8))


def damaged(name):
    def read():
        raise DamagedImageError(f'{name} is damaged')

    return Source(name, '', read)


def test_what_cannot_be_read_is_set_aside_and_named():
    skipped = []
    read = list(read_sources([source('a'), damaged('b'), source('c')], skipped))
    assert [item.name for item, _ in read] == ['a', 'c']
    assert skipped == [Skipped('b', 'b is damaged')]


def test_only_neighbours_of_one_shape_share_a_batch():
    shapes = [(2, 2, 3)] * 3 + [(2, 4, 3)] + [(2, 2, 3)] * 2
    read = read_sources([source(str(i), shape) for i, shape in enumerate(shapes)], [])
    joined = [[item.name for item, _ in batch] for batch in batches(read, 2)]
    assert joined == [['0', '1'], ['2'], ['3'], ['4', '5']]


def test_one_image(tmp_path):
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert np.array_equal(read_one(image)[1], image)
    with pytest.raises(UserError, match='stands for 2 images: give one'):
        read_one([image, image])


def test_nothing_left():
    require_some([1], [])
    with pytest.raises(UserError, match='none of the 2 images can be read; the first: b is damaged'):
        require_some([], [Skipped('b', 'b is damaged'), Skipped('c', '')])
