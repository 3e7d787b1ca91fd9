"""Published re-identification networks: rows are those of the network's own pipeline, written out here once more."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from mmps_kd.errors import UserError
from mmps_kd.models.distillers.reid_network import PRESETS, ReIDNetwork

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def torchreid(path, crops):
    """``FeatureExtractor``: Pillow, resize, to tensor, normalise."""
    onnxruntime = pytest.importorskip('onnxruntime')
    session = onnxruntime.InferenceSession(path)
    vectors = []
    for crop in crops:
        image = Image.fromarray(crop[..., ::-1]).resize((128, 256), Image.Resampling.BILINEAR)
        pixels = ((np.asarray(image) / 255 - MEAN) / STD).transpose(2, 0, 1)[None].astype(np.float32)
        vectors.append(session.run(None, {session.get_inputs()[0].name: pixels})[0][0])
    return np.stack(vectors)


def open_model_zoo(path, crops):
    """BGR pixels as they are, resized by OpenCV, one image at a time."""
    openvino = pytest.importorskip('openvino')
    model = openvino.compile_model(path, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    inputs = [cv2.resize(crop, (128, 256)).transpose(2, 0, 1)[None].astype(np.float32) for crop in crops]
    return np.stack([model(pixels)[0].reshape(-1) for pixels in inputs])


@pytest.mark.data
@pytest.mark.parametrize(
    ('preset', 'file', 'own_pipeline'),
    [
        ('osnet', 'osnet_x0_25_msmt17.onnx', torchreid),
        ('omz', 'person-reidentification-retail-0287.xml', open_model_zoo),
    ],
)
def test_vectors_are_those_of_the_networks_own_pipeline(shared_data, preset, file, own_pipeline):
    path = str(shared_data / 'weights' / file)
    annotations = json.loads((shared_data / 'real/prw_test_pid.json').read_text())
    names = {image['id']: image['file_name'] for image in annotations['images']}
    crops = []
    for entry in annotations['annotations'][::90][:12]:
        x, y, width, height = map(round, entry['bbox'])
        image = cv2.imread(str(shared_data / 'real/frames' / names[entry['image_id']]))
        crops.append(image[max(y, 0) : y + height, max(x, 0) : x + width])
    vectors = ReIDNetwork(path, preset).embed(crops)
    expected = own_pipeline(path, crops)
    cosines = (vectors * expected).sum(axis=1) / np.linalg.norm(expected, axis=1)
    assert len(cosines) == 12
    assert cosines.min() > 1 - 1e-3


def test_presets_name_what_they_are():
    assert set(PRESETS) == {'osnet', 'omz', 'fastreid'}
    with pytest.raises(UserError, match="preset='vit' does not exist: choose one of osnet, omz, fastreid"):
        ReIDNetwork('net.onnx', 'vit')
