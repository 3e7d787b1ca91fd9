"""The reader of MATLAB files, compared with what scipy writes and reads."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.io import loadmat, savemat
from scipy.sparse import eye

from mmps_kd.datasets.matlab import iterate_structs, load_mat, to_names
from mmps_kd.errors import UserError

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
    assert len(expected) == len(values)
    for name in expected:
        assert_same(load_mat(path, name), plain(expected[name]))


@pytest.mark.parametrize('content', [b'', bytes(200), b'MATLAB 7.3 MAT-file'.ljust(124) + b'\x00\x02IM' + bytes(80)])
def test_other_versions_are_refused(path: Path, content: bytes):
    path.write_bytes(content)
    with pytest.raises(UserError, match='no MATLAB 5 file'):
        load_mat(path, 'x')


def test_sparse_matrices_and_objects_are_refused(path: Path):
    savemat(path, {'x': eye(3)})
    with pytest.raises(UserError, match='class 5'):
        load_mat(path, 'x')


@pytest.fixture
def mat_file(tmp_path: Path) -> Path:
    path = tmp_path / 'a.mat'
    savemat(path, {'wanted': np.arange(1000.0), 'other': np.zeros(3)})
    return path


def test_the_first_key_that_is_there_is_taken(mat_file: Path):
    assert load_mat(mat_file, 'absent', 'other', 'wanted').size == 3


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r'gone\.mat: no such file; .*data_root'):
        load_mat(tmp_path / 'gone.mat', 'x')


def test_a_missing_variable_is_named_with_those_that_there_are(mat_file: Path):
    with pytest.raises(UserError, match=r'a\.mat has no variable pool, only: wanted, other'):
        load_mat(mat_file, 'pool')


@pytest.mark.parametrize('compressed', [False, True])
@pytest.mark.parametrize('part', [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_gives_one_line_that_names_it(tmp_path: Path, compressed: bool, part: float):
    path = tmp_path / 'a.mat'
    savemat(path, {'wanted': np.random.default_rng(0).random(1000)}, do_compression=compressed)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(UserError, match=r'a\.mat') as caught:
        load_mat(path, 'wanted')
    assert '\n' not in str(caught.value)


def test_a_file_of_another_kind_gives_one_line(tmp_path: Path):
    path = tmp_path / 'a.mat'
    path.write_text('<html>404 not found</html>\n' * 40)
    with pytest.raises(UserError, match='truncated, damaged or not the official file'):
        load_mat(path, 'wanted')


def test_names_may_hold_any_space():
    names = ['s 1.jpg', '街\u30001\u00a0\u202f\u200d.jpg']
    assert to_names(names).tolist() == names
    for wrong in ('a\nb', 'a\0', 5):
        with pytest.raises(ValueError, match='a name is no text'):
            to_names([wrong])


@pytest.mark.parametrize('compressed', [False, True])
@pytest.mark.parametrize(
    'numbers', [np.arange(5, dtype=t).reshape(1, 5) for t in ('i1', 'u1', 'i2', 'u2', 'i4', 'u4', 'f4', 'f8', 'i8')]
)
def test_streamed_structs_are_what_scipy_reads(tmp_path: Path, compressed: bool, numbers: np.ndarray):
    inner = np.empty((1, 3), dtype=[('name', object), ('a_long_field_name', object)])
    inner[0] = [('s', numbers), ('image-1.jpg', np.zeros((1, 0))), ('naïve 人', numbers[:, :1])]
    outer = np.empty((1, 2), dtype=[('Query', object), ('Gallery', object)])
    outer[0] = [(inner[:, :1], inner), (inner[:, 1:2], inner[:, 2:])]
    savemat(tmp_path / 'a.mat', {'Test': outer}, do_compression=compressed)
    assert_same(list(iterate_structs(tmp_path / 'a.mat', 'Test')), plain(loadmat(tmp_path / 'a.mat')['Test']))


def test_a_streamed_file_that_ends_too_early_is_an_error(cuhk_root: Path):
    path = cuhk_root / 'annotation/test/train_test/TestG100.mat'
    content = path.read_bytes()
    for size in (60, 130, 200, len(content) - 40):
        path.write_bytes(content[:size])
        with pytest.raises(UserError, match=r'TestG100\.mat'):
            list(iterate_structs(path, 'TestG100'))


def test_another_streamed_variable_is_an_error_that_names_both(cuhk_root: Path):
    path = cuhk_root / 'annotation/test/train_test/TestG100.mat'
    with pytest.raises(UserError, match='no variable TestG500 but TestG100'):
        list(iterate_structs(path, 'TestG500'))
