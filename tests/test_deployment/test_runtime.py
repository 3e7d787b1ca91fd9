"""A model is run in several ways and gives the same."""

import copy
import sys

import numpy as np
import pytest
import torch
from torch import nn

from mmps_kd.apis import PersonSearchInferencer, init_model, load_config
from mmps_kd.deployment import prepare_for_cpu
from mmps_kd.errors import UserError

BOXES = [[40, 60, 90, 200], [0, 0, 50, 100]]


@pytest.fixture(scope='module')
def image():
    return np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)


@pytest.fixture(scope='module')
def plain(search_files):
    """The model as it was trained."""
    inferencer = PersonSearchInferencer(*search_files, device='cpu')
    inferencer.model.model = init_model(*search_files, device='cpu')
    return inferencer


@pytest.fixture(scope='module')
def export_dir(tmp_path_factory):
    """Both libraries read the same files."""
    return tmp_path_factory.mktemp('exported')


def found_by(inferencer, image, score_thr=0.0):
    people = inferencer.detect(image, score_thr=score_thr).scenes[0].people
    return people.boxes / image.shape[1], people.scores, people.embeddings


def check(inferencer, plain, image, atol):
    """Boxes as shares of the image's width."""
    for value, expected in zip(found_by(inferencer, image), found_by(plain, image), strict=True):
        np.testing.assert_allclose(value, expected, rtol=0, atol=atol)
    np.testing.assert_allclose(inferencer.embed(image, BOXES), plain.embed(image, BOXES), rtol=0, atol=atol)


@pytest.mark.parametrize(
    'config',
    [
        'demo/oim_r18-quarter_mini.py',
        'oim/oim_r50-fpn_20e_cuhk-sysu.py',
        'seqnet/seqnet_r18_20e_cuhk-sysu.py',
        'nae/nae_r50_22e_cuhk-sysu.py',
        'oim/oim_mobilenetv2-fpn_20e_cuhk-sysu.py',
    ],
)
def test_a_prepared_model_gives_what_it_gave(spread_model, predict, noise, config):
    model = spread_model(config)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
    expected = predict(model, noise(93, 125))
    prepared = copy.deepcopy(model)
    prepare_for_cpu(prepared)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in prepared.modules())
    for value, own in zip(predict(prepared, noise(93, 125)), expected, strict=True):
        torch.testing.assert_close(value, own, rtol=1e-5, atol=1e-5)


def test_torch_changes_nothing(search_files, plain, image):
    check(PersonSearchInferencer(*search_files, device='cpu'), plain, image, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize('backend', ['onnxruntime', 'openvino'])
def test_exported_graphs_change_nothing(search_files, plain, image, export_dir, backend):
    pytest.importorskip('onnxscript')
    pytest.importorskip(backend)
    inferencer = PersonSearchInferencer(*search_files, backend=backend, export_dir=export_dir)
    check(inferencer, plain, image, atol=1e-5)
    scores = found_by(plain, image)[1]
    assert found_by(inferencer, image, float(scores[1]))[1] == pytest.approx(scores[:2], abs=1e-5)
    detect, embed = sorted(export_dir.iterdir())
    assert detect.name.startswith('small_')
    assert (detect.name[-12:], embed.name[-11:]) == ('_detect.onnx', '_embed.onnx')
    assert inferencer.model.key == plain.model.key

    written = detect.stat().st_mtime_ns
    found_by(PersonSearchInferencer(*search_files, backend=backend, export_dir=export_dir), image)
    assert detect.stat().st_mtime_ns == written


@pytest.mark.parametrize('backend', ['torch', pytest.param('openvino', marks=pytest.mark.slow)])
def test_half_precision_is_near_and_has_its_own_index(search_files, plain, image, export_dir, backend):
    if backend == 'openvino':
        pytest.importorskip('onnxscript')
        pytest.importorskip('openvino')
    options = dict(backend=backend, precision='bf16', export_dir=export_dir)
    inferencer = PersonSearchInferencer(*search_files, device='cpu', **options)
    embeddings, expected = inferencer.embed(image, BOXES), plain.embed(image, BOXES)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, expected, atol=0.1)
    assert inferencer.model.key != plain.model.key
    boxes, scores, _ = found_by(inferencer, image)
    assert (boxes.dtype, scores.dtype, len(boxes)) == (np.float32, np.float32, 3)


@pytest.mark.slow
def test_float_pixels_reach_the_graph_as_they_are(search_files, image, tmp_path):
    """FloorResize gives float pixels; what the graph gets is not rounded."""
    pytest.importorskip('onnxscript')
    pytest.importorskip('onnxruntime')
    cfg = load_config(search_files[0])
    cfg.test_dataloader.dataset.pipeline[2] = dict(type='FloorResize', scale=(160, 120))
    expected = PersonSearchInferencer(cfg, search_files[1], device='cpu').embed(image, BOXES)
    inferencer = PersonSearchInferencer(cfg, search_files[1], backend='onnxruntime', export_dir=tmp_path)
    np.testing.assert_allclose(inferencer.embed(image, BOXES), expected, atol=1e-5)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(backend='tensorrt'), "backend='tensorrt' does not exist: choose one of torch, onnxruntime, openvino"),
        (dict(precision='fp8'), "precision='fp8' does not exist for backend torch: choose fp32 or bf16"),
        (dict(backend='onnxruntime', precision='bf16'), "precision='bf16' does not exist for backend onnxruntime"),
        (dict(backend='openvino', device='cuda:0'), 'backend openvino runs on the CPU, not on cuda:0'),
    ],
)
def test_what_there_is_not(search_files, options, message):
    with pytest.raises(UserError, match=message):
        PersonSearchInferencer(*search_files, **options)


def test_a_backend_that_is_not_installed(search_files, monkeypatch):
    monkeypatch.setitem(sys.modules, 'openvino', None)
    with pytest.raises(UserError, match='backend openvino is not installed: pip install -r requirements/onnx.txt'):
        PersonSearchInferencer(*search_files, backend='openvino')


def test_a_model_that_cannot_be_exported(search_files, image, tmp_path):
    pytest.importorskip('onnxruntime')
    cfg = load_config(search_files[0], {'model.test_cfg.rcnn.nms': dict(type='soft_nms', iou_threshold=0.4)})
    inferencer = PersonSearchInferencer(cfg, search_files[1], backend='onnxruntime', export_dir=tmp_path)
    with pytest.raises(UserError, match='NMS of type soft_nms cannot be exported: set type=nms in model.test_cfg'):
        inferencer.detect(image)
    assert list(tmp_path.iterdir()) == []
