"""Configs by file and by name."""

import pytest

from mmps_kd.apis.init_model import load_config
from mmps_kd.errors import UserError


def test_a_file_a_name_and_a_config(repo_root):
    path = repo_root / 'configs/demo/oim_r18-narrow_mini.py'
    by_file, by_name = load_config(path), load_config('oim_r18-narrow_mini')
    assert by_file.model == by_name.model
    assert load_config(by_file) is by_file


def test_every_config_of_the_package_has_a_name_of_its_own(repo_root):
    paths = list(repo_root.glob('configs/[!_]*/*.py'))
    assert len({path.stem for path in paths}) == len(paths) > 30


@pytest.mark.parametrize('name', ['oim_r50_20e_cuhksysu', 'configs/oim_r50_20e_cuhk-sysu.py'])
def test_a_name_that_there_is_not(name):
    with pytest.raises(UserError, match=f'no config file {name}.*did you mean oim_r50_20e_cuhk-sysu, '):
        load_config(name)
    with pytest.raises(UserError, match='none of that name in the package$'):
        load_config('xyz')


def test_base_files_have_no_name():
    with pytest.raises(UserError):
        load_config('default_runtime')
