"""Scenes in memory through a model."""

import numpy as np
import pytest
from mmengine.config import Config

from mmps_kd.apis.inferencer import SearchModel, require_inside
from mmps_kd.apis.init_model import find_device, require_search_model
from mmps_kd.errors import UserError


@pytest.fixture(scope='module')
def model(search_files):
    config, checkpoint = search_files
    return SearchModel(Config.fromfile(config), checkpoint, 'cpu')


@pytest.fixture(scope='module')
def images():
    """Two of one size, one of another."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((90, 120), (90, 120), (60, 120))]


def close(one, two):
    return all(np.allclose(getattr(one, f), getattr(two, f), atol=1e-5) for f in ('boxes', 'scores', 'embeddings'))


def test_what_is_found(model, images):
    (people,) = model.detect(images[:1])
    assert people.boxes.shape == (3, 4)
    assert people.scores.shape == (3,)
    assert np.linalg.norm(people.embeddings, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert (people.boxes[:, [0, 2]] <= 120).all()
    assert (people.boxes[:, [1, 3]] <= 90).all()


def test_a_batch_of_one_size_changes_no_answer(model, images):
    alone = [model.detect([image])[0] for image in images[:2]]
    together = model.detect(images[:2])
    assert all(map(close, alone, together))
    assert not close(*together)


def test_a_found_person_is_described_alike_when_given(model, images):
    (people,) = model.detect(images[2:])
    again = model.embed(images[2], people.boxes)
    assert np.allclose(again, people.embeddings, atol=1e-4)
    assert model.embed(images[2], people.boxes[:1]) == pytest.approx(again[:1], abs=1e-5)


def test_the_key_tells_models_apart(search_files, model, tmp_path):
    config, checkpoint = search_files
    cfg = Config.fromfile(config)
    assert SearchModel(cfg, checkpoint, 'cpu').key == model.key
    cfg.test_dataloader.dataset.pipeline[2].scale = (200, 150)
    assert SearchModel(cfg, checkpoint, 'cpu').key != model.key
    other = tmp_path / 'other.pth'
    other.write_bytes(checkpoint.read_bytes() + b'\0')
    assert SearchModel(Config.fromfile(config), other, 'cpu').key != model.key


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        (dict(type='QEEPS', roi_head=dict(reid_head={})), 'the config is a query-guided model'),
        (dict(type='FasterRCNN', roi_head=dict(bbox_head={})), 'the config has no re-identification head'),
        (dict(type='RetinaNet'), 'the config has no re-identification head'),
    ],
)
def test_models_that_cannot_search(model, message):
    with pytest.raises(UserError, match=message):
        require_search_model(Config(dict(model=model)))


@pytest.mark.parametrize(
    'box', [[12, 0, 20, 5], [0, 8, 5, 20], [-5, -5, 0, 4], [6, 2, 3, 5], [0, 0, 0, 5], [np.nan] * 4]
)
def test_boxes_that_have_no_part_in_the_image(box):
    boxes = np.array([[0, 0, 12, 8], box], dtype=float)
    with pytest.raises(UserError, match=f'box {box[0]:g} .* has no part in the image of 12x8 pixels'):
        require_inside(boxes, (8, 12))


def test_boxes_that_have_a_part_in_the_image():
    require_inside(np.array([[-3, -3, 1, 1], [11, 7, 90, 90], [0, 0, 12, 8]], dtype=float), (8, 12))


@pytest.mark.parametrize('name', ['gpu', 'cuda:99'])
def test_devices_that_are_not_there(name):
    with pytest.raises(UserError, match=f'device {name} cannot be used: '):
        find_device(name)


def test_a_device_that_is_there():
    assert find_device('cpu').type == 'cpu'
    assert find_device(None).type in ('cpu', 'cuda')
