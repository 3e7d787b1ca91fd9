from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from mmps_kd.datasets.annotations.struct_stream import iterate_structs
from mmps_kd.errors import UserError


def assert_same(ours, scipys: np.ndarray) -> None:
    """Compare with what scipy reads: (1, n) struct arrays, strings as arrays of one, numbers."""
    if scipys.dtype.names:
        assert len(ours) == scipys.size
        for element, expected in zip(ours, scipys.reshape(-1), strict=True):
            assert list(element) == list(scipys.dtype.names)
            for key in element:
                assert_same(element[key], expected[key])
    elif scipys.size == 0:
        assert ours is None
    elif scipys.dtype.kind == 'U':
        assert ours == scipys.item()
    else:
        np.testing.assert_array_equal(ours, scipys)


@pytest.mark.parametrize('compressed', [False, True])
@pytest.mark.parametrize(
    'numbers', [np.arange(5, dtype=t).reshape(1, 5) for t in ('i1', 'u1', 'i2', 'u2', 'i4', 'u4', 'f4', 'f8', 'i8')]
)
def test_reads_what_scipy_reads(tmp_path: Path, compressed: bool, numbers: np.ndarray):
    inner = np.empty((1, 3), dtype=[('name', object), ('a_long_field_name', object)])
    inner[0] = [('s', numbers), ('image-1.jpg', np.zeros((1, 0))), ('naïve 人', numbers[:, :1])]
    outer = np.empty((1, 2), dtype=[('Query', object), ('Gallery', object)])
    outer[0] = [(inner[:, :1], inner), (inner[:, 1:2], inner[:, 2:])]
    savemat(tmp_path / 'a.mat', {'Test': outer}, do_compression=compressed)
    assert_same(list(iterate_structs(tmp_path / 'a.mat', 'Test')), loadmat(tmp_path / 'a.mat')['Test'])


def test_a_file_that_ends_too_early_is_an_error(cuhk_root: Path):
    path = cuhk_root / 'annotation/test/train_test/TestG100.mat'
    content = path.read_bytes()
    for size in (60, 130, 200, len(content) - 40):
        path.write_bytes(content[:size])
        with pytest.raises((EOFError, ValueError)):
            list(iterate_structs(path, 'TestG100'))


def test_another_variable_is_an_error_that_names_both(cuhk_root: Path):
    path = cuhk_root / 'annotation/test/train_test/TestG100.mat'
    with pytest.raises(UserError, match='no variable TestG500 but TestG100'):
        list(iterate_structs(path, 'TestG500'))
