"""A wheel is built from a copy of the tree, unpacked, and used from there."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ('mmps_kd', 'configs', 'tools')
FILES = ('setup.py', 'setup.cfg', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE', 'model-index.yml')


def files_of(folder, pattern='*'):
    """Relative paths of the files that belong to the project."""
    kept = (path for path in (ROOT / folder).rglob(pattern) if path.is_file())
    return {str(p.relative_to(ROOT)) for p in kept if not {'__pycache__', '.mim'} & set(p.parts)}


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """Folder with the unpacked wheel."""
    tree, site = tmp_path_factory.mktemp('tree'), tmp_path_factory.mktemp('site')
    for name in PARTS:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns('__pycache__', '.mim'))
    for name in FILES:
        shutil.copy(ROOT / name, tree)
    pip = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-index', '--no-build-isolation']
    subprocess.run([*pip, '--wheel-dir', str(tree / 'dist'), str(tree)], check=True)
    (wheel,) = (tree / 'dist').glob('*.whl')
    zipfile.ZipFile(wheel).extractall(site)
    return site


def test_wheel_holds_modules_configs_and_tools(site):
    held = {str(p.relative_to(site)) for p in site.rglob('*') if p.is_file()}
    extra = {f'mmps_kd/.mim/{name}' for part in ('configs', 'tools') for name in files_of(part)}

    expected = files_of('mmps_kd', '*.py') | files_of('mmps_kd', '*.html') | extra | {'mmps_kd/.mim/model-index.yml'}
    assert {name for name in held if name.startswith('mmps_kd/')} == expected


def test_wheel_requires_nothing_of_openmmlab_or_torch(site):
    (info,) = site.glob('*.dist-info')
    metadata = Distribution.at(info)
    hard = {line for line in metadata.requires if 'extra ==' not in line}

    assert hard == {'numpy', 'safetensors', 'scipy', 'terminaltables', 'tqdm'}
    extras = {'openmmlab', 'upstream', 'dev', 'gallery', 'milvus', 'app'}
    assert set(metadata.metadata.get_all('Provides-Extra')) == extras
    assert metadata.metadata['Requires-Python'] == '<3.14,>=3.10'


def test_installed_configs_resolve_by_scope(site, tmp_path):
    (tmp_path / 'mine.py').write_text(
        "_base_ = 'mmps_kd::oim/oim_r18_20e_cuhk-sysu.py'\nmodel = dict(backbone=dict(init_cfg=None))\n"
    )
    script = (
        'import mmps_kd; from mmengine.config import Config; from mmdet.registry import MODELS\n'
        "print(mmps_kd.__file__); print(type(MODELS.build(Config.fromfile('mine.py').model)).__module__)"
    )
    environment = {**os.environ, 'PYTHONPATH': str(site)}
    command = [sys.executable, '-c', script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    package, model = done.stdout.splitlines()[-2:]
    assert package == str(site / 'mmps_kd' / '__init__.py')
    assert model.startswith('mmps_kd.models.')
