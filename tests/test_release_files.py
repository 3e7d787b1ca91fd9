"""Files that an earlier release wrote (commit 9659f5d) still load, and give what they gave there.

A model with 4 base channels was trained for one epoch on the synthetic data set of size ``tiny``,
then tested by the tools.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config

from mmps_kd.apis import PersonSearchInferencer
from mmps_kd.evaluation.functional import evaluate_detection, evaluate_search, load_results
from mmps_kd.gallery import Gallery, read_npz_gallery

ROOT = Path(__file__).resolve().parents[1]
FILES = ROOT / 'tests/data/release'
TRAINING = """
train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root='{data}/'))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root='{data}/'))
train_cfg = dict(max_epochs=1, val_begin=9)
"""


@pytest.fixture
def config(write_small_config, tmp_path):
    return write_small_config(tmp_path / 'small.py', 4, TRAINING)


def test_results_file_has_the_same_figures(config):
    dataset = DATASETS.build(Config.fromfile(config).test_dataloader.dataset)
    results = load_results(FILES / 'results.npz')
    scores = evaluate_search(results, dataset.metainfo['evaluation'].main, score_thr=0.0)
    assert scores.mAP == pytest.approx(0.00787037037037037)
    assert scores.first_hit.tolist() == [27, 16, 0, 0, 0]
    detection = evaluate_detection(results, dataset.metainfo['evaluation'].ground_truth, score_thr=0.0)
    assert (detection.ap, detection.recall_labelled) == pytest.approx((0.022727272727272728, 0.0625))


def test_checkpoint_gives_the_detections_of_the_results_file(config, tiny_cuhk_sysu):
    inferencer = PersonSearchInferencer(str(config), str(FILES / 'epoch_1.pth'), device='cpu')
    # The same model, so that the gallery of its detections is used further.
    assert inferencer.model.key == str(read_npz_gallery(FILES / 'gallery.npz')['model'])
    results = load_results(FILES / 'results.npz')
    image = tiny_cuhk_sysu / 'Image/SSM' / results.image_names[0]
    found = inferencer.detect(str(image), score_thr=0.0).scenes[0].people
    count = results.num_dets[0]
    np.testing.assert_allclose(found.boxes, results.boxes[:count, :4], atol=1e-3)
    np.testing.assert_allclose(found.embeddings, results.embeddings[:count], atol=1e-5)


@pytest.mark.parametrize('place', ['memory', 'folder'])
def test_gallery_ranks_as_before(place, tmp_path):
    model = str(read_npz_gallery(FILES / 'gallery.npz')['model'])
    gallery = Gallery(None if place == 'memory' else tmp_path / 'g', model, dtype='float32')
    assert gallery.import_npz(FILES / 'gallery.npz') == 23
    with np.load(FILES / 'gallery.npz') as file:
        names = file['img_names'].tolist()
    (hits,) = gallery.search(gallery[names[0]].embeddings[:1], 3, images=names, score_thr=0)
    assert [Path(name).name for name in hits.images] == ['s10.jpg', 's8.jpg', 's11.jpg']
    np.testing.assert_allclose(hits.similarities, [0.9999999, 0.9290244, 0.9203745], atol=1e-6)
    assert (len(gallery), gallery.count(), gallery.info()['score_thr']) == (23, 69, 0.0)


def test_look_up_table_is_the_buffer(config):
    cfg = Config.fromfile(config).model
    cfg.update(type='PersonSearchDistiller', lut=dict(type='LUTDistiller', lut_file=str(FILES / 'lut.safetensors')))
    rows = MODELS.build(cfg).roi_head.reid_head.loss_oim.lut
    assert rows.norm(dim=1).tolist() == pytest.approx([1.0] * 6, abs=1e-5)
    assert rows[0].tolist() == pytest.approx(
        [0.2729, 0.1130, 0.1550, 0.8674, 0.1003, 0.3001, -0.0598, 0.1808], abs=1e-4
    )


@pytest.mark.slow
def test_training_goes_on_from_the_checkpoint(config, tmp_path):
    command = [sys.executable, ROOT / 'tools/train.py', config, '--work-dir', tmp_path / 'work']
    options = ['--resume', FILES / 'epoch_1.pth', '--cfg-options', 'train_cfg.max_epochs=2']
    subprocess.run([*command, *options], check=True)
    assert (tmp_path / 'work/epoch_2.pth').is_file()
