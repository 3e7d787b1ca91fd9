import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.io import loadmat, savemat

from mmps_kd.testing.synthetic import mat5


@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.floats(width=64)))
def test_numbers_are_read_back_exactly(tmp_path_factory, values):
    path = tmp_path_factory.mktemp('mat') / 'x.mat'
    mat5.save(path, [mat5.numbers(values, 'x')])
    np.testing.assert_array_equal(loadmat(path)['x'], values)


@pytest.mark.parametrize(
    ('values', 'stored'),
    [
        ([[0, 255]], np.uint8),
        ([[0, 256]], np.uint16),
        ([[-2, 8]], np.int16),
        ([[-2, 70000]], np.int32),
        ([[0.5, 1]], np.float64),
    ],
)
def test_numbers_take_the_smallest_type_as_in_matlab(tmp_path, values, stored):
    mat5.save(tmp_path / 'x.mat', [mat5.numbers(np.array(values), 'x')])
    assert loadmat(tmp_path / 'x.mat')['x'].dtype == stored
    assert loadmat(tmp_path / 'x.mat', mat_dtype=True)['x'].dtype == np.float64  # the class is double


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40))
def test_char_is_read_back(tmp_path_factory, text):
    path = tmp_path_factory.mktemp('mat') / 'x.mat'
    mat5.save(path, mat5.cells([mat5.char(text)], (1, 1), 'x'))
    assert loadmat(path)['x'][0, 0].tolist() == [text]


def test_nested_structs_equal_those_of_scipy(tmp_path):
    inner = np.empty((1, 2), [('name', object), ('xywh', object)])
    inner[0, 0] = 's1.jpg', np.array([[1, 2, 3, 4]], np.uint8)
    inner[0, 1] = 'long_name_12.jpg', np.zeros((1, 0))
    outer = np.empty((1, 1), [('scene', object)])
    outer[0, 0] = (inner,)
    reference = io.BytesIO()
    savemat(reference, {'x': outer}, do_compression=True)

    rows = [mat5.char('s1.jpg'), mat5.numbers(np.array([[1, 2, 3, 4]]))]
    rows += [mat5.char('long_name_12.jpg'), mat5.numbers(np.zeros((1, 0)))]
    scene = mat5.structs(('name', 'xywh'), rows, (1, 2))
    mat5.save(tmp_path / 'x.mat', mat5.structs(('scene',), scene, (1, 1), 'x'))

    read, expected = loadmat(tmp_path / 'x.mat')['x'], loadmat(reference)['x']
    assert read.dtype == expected.dtype
    for ours, theirs in zip(read[0, 0]['scene'].ravel(), expected[0, 0]['scene'].ravel(), strict=True):
        for field in ('name', 'xywh'):
            assert ours[field].dtype == theirs[field].dtype
            np.testing.assert_array_equal(ours[field], theirs[field])


def test_pieces_may_be_joined_or_split(tmp_path: Path):
    fields = mat5.char('a'), mat5.numbers(np.array([[7]]))
    mat5.save(tmp_path / 'split.mat', mat5.structs(('n', 'v'), [*fields, *fields], (1, 2), 'x'))
    mat5.save(tmp_path / 'joined.mat', mat5.structs(('n', 'v'), [b''.join(fields) * 2], (1, 2), 'x'))
    assert (tmp_path / 'split.mat').read_bytes() == (tmp_path / 'joined.mat').read_bytes()


def test_several_variables_in_one_file(tmp_path):
    mat5.save(tmp_path / 'x.mat', [mat5.numbers(np.array([[1]]), 'a')], [mat5.numbers(np.array([[2]]), 'b')])
    assert [int(loadmat(tmp_path / 'x.mat')[key].item()) for key in 'ab'] == [1, 2]
