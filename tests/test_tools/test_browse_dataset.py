"""Pictures of training samples."""

import importlib.util
import sys

import numpy as np
import pytest
from PIL import Image

from mmps_kd.errors import UserError
from mmps_kd.visualization.draw import GAP


@pytest.fixture
def browse(repo_root, monkeypatch, tiny_cuhk_sysu, tmp_path):
    """Run the tool on the tiny data set; gives the pictures by name."""
    file = repo_root / 'tools/analysis_tools/browse_dataset.py'
    spec = importlib.util.spec_from_file_location('browse_dataset', file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def browse(config, data_key, *arguments, out='pictures'):
        command = [file, repo_root / 'configs/demo' / config, '--out', tmp_path / out, *arguments]
        command += ['--cfg-options', f'{data_key}.data_root={tiny_cuhk_sysu}/']
        monkeypatch.setattr(sys, 'argv', [*map(str, command)])
        module.main()
        return {path.name: np.asarray(Image.open(path)) for path in (tmp_path / out).iterdir()}

    return browse


def test_samples_are_spread_over_the_training_set(browse):
    pictures = browse('oim_r18-narrow_mini.py', 'train_dataloader.dataset', '--num-images', '3')
    assert sorted(name[:6] for name in pictures) == ['00000_', '00006_', '00011_']
    assert all(name[6] == 's' for name in pictures)
    assert {picture.shape[1] for picture in pictures.values()} == {800}


@pytest.mark.slow
def test_the_pipeline_is_seen_and_its_draws_are_repeatable(browse):
    def draw(seed, out):
        return browse('oim_r18-narrow_mini.py', 'train_dataloader.dataset', '--seed', seed, out=out)

    first, again, other = draw('0', 'first'), draw('0', 'again'), draw('1', 'other')
    assert len(first) == 12
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)  # some are flipped


def test_pairs_show_the_query_beside_the_gallery(browse):
    pictures = browse('qeeps_r18-quarter_mini.py', 'train_dataloader.dataset.dataset', '--num-images', '2')
    assert {picture.shape[1] for picture in pictures.values()} == {2 * 800 + GAP}


def test_no_images(browse):
    with pytest.raises(UserError, match='--num-images must be at least 1, got 0'):
        browse('oim_r18-narrow_mini.py', 'train_dataloader.dataset', '--num-images', '0')
