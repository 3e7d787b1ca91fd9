from pathlib import Path

import pytest

from mmps_kd.testing.synthetic import write_dataset


@pytest.fixture(scope='session')
def cuhk_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('synthetic') / 'cuhk-sysu'
    write_dataset(root, 'cuhk-sysu', 'tiny')
    return root


@pytest.fixture(scope='session')
def prw_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('synthetic') / 'prw'
    write_dataset(root, 'prw', 'tiny')
    return root
