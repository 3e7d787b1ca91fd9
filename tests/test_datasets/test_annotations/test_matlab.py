from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from mmps_kd.datasets.annotations.matlab import load_mat, texts
from mmps_kd.errors import UserError


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
    assert texts(names).tolist() == names
    for wrong in ('a\nb', 'a\0', 5):
        with pytest.raises(ValueError, match='a name is no text'):
            texts([wrong])
