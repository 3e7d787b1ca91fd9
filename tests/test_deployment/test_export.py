"""Exported files give what the model gives, on images of any size."""

import subprocess
import sys

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from mmps_kd.apis import PersonSearchInferencer
from mmps_kd.apis.inferencer import SearchModel
from mmps_kd.apis.init_model import load_config
from mmps_kd.deployment import export_program, write_onnx
from mmps_kd.errors import UserError

SIZES = [(96, 128), (93, 125), (158, 60), (30, 190)]
LOAD = """
import sys
import torch
import mmps_kd.deployment.ops
program = torch.export.load(sys.argv[1]).module()
torch.save([program(image) for image in torch.load(sys.argv[2])], sys.argv[3])
"""


def check(run, model, predict, images):
    for image in images:
        expected = predict(model, image)
        for value, own in zip(run(image), expected, strict=True):
            np.testing.assert_allclose(value, own, rtol=1e-5, atol=1e-4)


def open_onnx(path):
    """The file as a function of an image."""
    session = onnxruntime.InferenceSession(path)
    return lambda image: session.run(['boxes', 'scores', 'embeddings'], dict(image=np.asarray(image)))


@pytest.fixture(scope='module')
def model(spread_model):
    return spread_model('demo/oim_r18-quarter_mini.py')


@pytest.fixture(scope='module')
def program(model):
    return export_program(model)


@pytest.fixture(scope='module')
def onnx_file(program, tmp_path_factory):
    path = tmp_path_factory.mktemp('onnx') / 'model.onnx'
    write_onnx(program, path)
    return path


@pytest.mark.slow
def test_onnx(onnx_file, model, predict, noise):
    check(open_onnx(onnx_file), model, predict, [noise(*size) for size in SIZES])


@pytest.mark.slow
def test_onnx_needs_the_standard_operators_alone(onnx_file):
    proto = onnx.load(onnx_file)
    onnx.checker.check_model(proto)
    assert [(opset.domain, opset.version) for opset in proto.opset_import] == [('', 18)]
    assert not proto.functions


@pytest.mark.slow
def test_program_in_another_process(program, model, predict, noise, tmp_path):
    images = [noise(*size) for size in SIZES]
    torch.export.save(program, tmp_path / 'model.pt2')
    torch.save(images, tmp_path / 'images.pth')
    files = [tmp_path / name for name in ('model.pt2', 'images.pth', 'found.pth')]
    subprocess.run([sys.executable, '-c', LOAD, *files], check=True)
    found = dict(zip(map(id, images), torch.load(tmp_path / 'found.pth'), strict=True))
    check(lambda image: found[id(image)], model, predict, images)


def test_nothing_of_training_is_kept(program, model):
    kept = {name.removeprefix('model.') for name in program.state_dict}
    oim = {name for name in model.state_dict() if '.loss_oim.' in name}
    assert kept & set(model.state_dict()) == set(model.state_dict()) - oim
    assert len(oim) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    'config',
    ['demo/seqnet_r18-quarter_mini.py', 'seqnet/seqnet_r18_20e_cuhk-sysu.py', 'oim/oim_r50-fpn_20e_cuhk-sysu.py'],
)
def test_onnx_of_other_models(config, spread_model, predict, noise, tmp_path):
    model = spread_model(config)
    write_onnx(export_program(model), tmp_path / 'model.onnx')
    check(open_onnx(tmp_path / 'model.onnx'), model, predict, [noise(*size) for size in SIZES])


@pytest.mark.slow
@pytest.mark.parametrize('config', ['demo/oim_r18-quarter_mini.py', 'demo/seqnet_r18-quarter_mini.py'])
def test_onnx_that_finds_nobody(config, spread_model, noise, tmp_path):
    write_onnx(export_program(spread_model(config, score_thr=1.0)), tmp_path / 'model.onnx')
    found = open_onnx(tmp_path / 'model.onnx')(noise(96, 128))
    assert [value.shape for value in found] == [(0, 4), (0,), (0, 128)]


@pytest.mark.slow
def test_onnx_agrees_with_the_inferencer(search_files, tiny_cuhk_sysu, tmp_path):
    config, checkpoint = search_files
    sources = SearchModel(load_config(config), checkpoint, 'cpu')
    write_onnx(export_program(sources.model), tmp_path / 'model.onnx')
    image = cv2.imread(str(next((tiny_cuhk_sysu / 'Image/SSM').iterdir())))
    (expected,) = sources.detect([image])
    height, width = image.shape[:2]
    scale = min(400 / max(height, width), 300 / min(height, width))
    resized = cv2.resize(image, (int(width * scale + 0.5), int(height * scale + 0.5)))
    boxes, scores, embeddings = open_onnx(tmp_path / 'model.onnx')(resized)
    factors = np.array(resized.shape[1::-1]) / (width, height)
    np.testing.assert_allclose(boxes / np.tile(factors, 2), expected.boxes, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(embeddings, expected.embeddings, atol=1e-4)


@pytest.fixture(scope='module')
def inferencer(search_files):
    return PersonSearchInferencer(*search_files, device='cpu', show_progress=False)


@pytest.fixture(scope='module')
def embed_program(inferencer):
    return export_program(inferencer.model.model, 'embed')


@pytest.fixture(scope='module')
def embed_file(embed_program, tmp_path_factory):
    path = tmp_path_factory.mktemp('onnx') / 'embed.onnx'
    write_onnx(embed_program, path, 'embed')
    return path


@pytest.mark.slow
@pytest.mark.parametrize('size', [(225, 300), (160, 90), (300, 400)])
def test_embedding_of_given_boxes(embed_file, inferencer, noise, size):
    """Equal to the inferencer's, for sizes that the test pipeline enlarges or leaves as they are."""
    session = onnxruntime.InferenceSession(embed_file)
    image = cv2.GaussianBlur(noise(*size).numpy(), (0, 0), 3)
    height, width = size
    scale = min(400 / max(size), 300 / min(size))
    resized = cv2.resize(image, (int(width * scale + 0.5), int(height * scale + 0.5)))
    boxes = np.array([[10, 20, 60, 140], [0, 0, 30, 50.5], [-5, 40, 200, 500]])
    factors = np.tile(np.array(resized.shape[1::-1]) / (width, height), 2)
    for count in (0, 1, 3):
        given = (boxes[:count] * factors).astype(np.float32)
        (embeddings,) = session.run(['embeddings'], dict(image=resized, boxes=given))
        expected = inferencer.embed(image, boxes[:count])
        assert embeddings.shape == expected.shape == (count, 16)
        np.testing.assert_allclose(embeddings, expected, atol=1e-5)
    assert np.abs(embeddings[0] - embeddings[1]).max() > 1e-3


@pytest.mark.slow
def test_the_task_is_in_the_file(embed_file, onnx_file):
    tasks = {
        path: onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map for path in (embed_file, onnx_file)
    }
    assert tasks == {embed_file: dict(task='embed'), onnx_file: dict(task='detect')}


@pytest.mark.slow
def test_embedding_needs_no_detector(embed_file, embed_program):
    onnx.checker.check_model(onnx.load(embed_file))
    operators = {node.op_type for node in onnx.load(embed_file).graph.node}
    assert 'RoiAlign' in operators
    assert 'NonMaxSuppression' not in operators
    assert not [name for name in embed_program.state_dict if 'rpn_head' in name or 'bbox_head' in name]


@pytest.mark.slow
@pytest.mark.parametrize('config', ['demo/seqnet_r18-quarter_mini.py', 'oim/oim_r50-fpn_20e_cuhk-sysu.py'])
def test_embedding_by_other_models(config, spread_model, predict, noise, tmp_path):
    """The detections of an image, as given boxes, have their embeddings."""
    model = spread_model(config)
    model.roi_head.embed_final_boxes = True
    program = export_program(model, 'embed')
    write_onnx(program, tmp_path / 'embed.onnx', 'embed')
    session = onnxruntime.InferenceSession(tmp_path / 'embed.onnx')
    for size in SIZES:
        image = noise(*size)
        boxes, _, expected = predict(model, image)
        for count in (0, 1, len(boxes)):
            (found,) = session.run(None, dict(image=image.numpy(), boxes=boxes[:count].numpy()))
            np.testing.assert_allclose(found, expected[:count], atol=1e-5)
            if 'fpn' in config and min(size) <= 64:
                # The pyramid's last level is one cell high or wide; torch.export fixes such sizes, ONNX does not.
                with pytest.raises(AssertionError, match='Guard failed'):
                    program.module()(image, boxes[:count])
            else:
                torch.testing.assert_close(program.module()(image, boxes[:count]), expected[:count], atol=1e-5, rtol=0)


def test_onnx_without_its_libraries(program, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    with pytest.raises(UserError, match='needs onnx and onnxscript: pip install -r requirements/onnx.txt'):
        write_onnx(program, tmp_path / 'model.onnx')
