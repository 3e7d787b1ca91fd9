"""Compared with what scipy writes and reads."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.io import loadmat, savemat

from mmps_kd.datasets.annotations.mat_elements import iterate_variables, parse_matrix

KINDS = ['i1', 'u1', 'i2', 'u2', 'i4', 'u4', 'i8', 'u8', 'f4', 'f8']
TEXT = st.text(st.characters(codec='utf-8', exclude_categories=['Cs', 'Cc']), min_size=1, max_size=20)
NUMBERS = st.sampled_from(KINDS).flatmap(
    lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=2, max_dims=3, min_side=0, max_side=4))
)


def structs(values: list) -> np.ndarray:
    array = np.empty((1, len(values)), dtype=[('a', object), ('a_longer_name', object)])
    for i, (first, second) in enumerate(values):
        array[0, i] = first, second
    return array


def cells(values: list) -> np.ndarray:
    array = np.empty((len(values), 1), dtype=object)
    array[:, 0] = values
    return array


VALUES = st.recursive(
    TEXT | NUMBERS,
    lambda inner: st.lists(inner, max_size=4).map(cells) | st.lists(st.tuples(inner, inner), max_size=3).map(structs),
    max_leaves=12,
)


def plain(value: np.ndarray):
    """What scipy read, as our values."""
    if value.size == 0:
        return None
    if value.dtype.names:
        return [{key: plain(element[key]) for key in value.dtype.names} for element in value.ravel(order='F')]
    if value.dtype == object:
        return [plain(element) for element in value.ravel(order='F')]
    return value.item() if value.dtype.kind == 'U' else value


def assert_same(ours, expected) -> None:
    assert type(ours) is type(expected)
    if isinstance(ours, np.ndarray):
        np.testing.assert_array_equal(ours, expected)
    elif isinstance(ours, list):
        assert len(ours) == len(expected)
        for one, other in zip(ours, expected, strict=True):
            assert_same(one, other)
    elif isinstance(ours, dict):
        assert list(ours) == list(expected)
        for key in ours:
            assert_same(ours[key], expected[key])
    else:
        assert ours == expected


@pytest.fixture(scope='module')
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('mat') / 'a.mat'


@settings(max_examples=60, deadline=None)
@given(values=st.lists(VALUES, min_size=1, max_size=3), compressed=st.booleans())
def test_reads_what_scipy_reads(path: Path, values: list, compressed: bool):
    savemat(path, {f'v{i}': value for i, value in enumerate(values)}, do_compression=compressed)
    expected = {key: value for key, value in loadmat(path).items() if key.startswith('v')}
    found = {name: parse_matrix(content) for name, content in iterate_variables(path.read_bytes())}
    assert list(found) == list(expected)
    for name in found:
        assert_same(found[name], plain(expected[name]))


@pytest.mark.parametrize('content', [b'', bytes(200), b'MATLAB 7.3 MAT-file'.ljust(124) + b'\x00\x02IM' + bytes(80)])
def test_other_versions_are_refused(content: bytes):
    with pytest.raises(ValueError, match='no MATLAB 5 file'):
        list(iterate_variables(content))


def test_sparse_matrices_and_objects_are_refused(path: Path):
    from scipy.sparse import eye

    savemat(path, {'x': eye(3)})
    ((_, content),) = iterate_variables(path.read_bytes())
    with pytest.raises(ValueError, match='class 5'):
        parse_matrix(content)
