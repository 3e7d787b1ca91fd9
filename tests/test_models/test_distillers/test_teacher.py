"""The teacher sees the student's images as its own preprocessor would make them, the padding included."""

import copy

import pytest
import torch
from mmdet.models import DetDataPreprocessor
from mmdet.registry import MODELS

from mmps_kd.models.distillers.teacher import normalise_alike, renormalise

CAFFE = dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], bgr_to_rgb=False)
PYTORCH = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)
UNIT = dict(mean=[0.0, 0.0, 0.0], std=[255.0, 255.0, 255.0])
RAW = dict(pad_value=114)


@pytest.fixture
def padded_batch(make_batch):
    """Two images, the second of 80x96 pixels beside one of 96x128, with a black bar at its right and bottom."""
    batch = make_batch([([[10, 8, 40, 88]], [3]), ([[20, 10, 50, 70]], [0])])
    image = batch['inputs'][1][:, :80, :96].contiguous()
    image[:, 70:], image[:, :, 90:] = 0, 0
    batch['inputs'][1] = image
    batch['data_samples'][1].set_metainfo(dict(img_shape=(80, 96)))
    return batch


PAIRS = [
    (CAFFE, PYTORCH),
    (PYTORCH, CAFFE),
    (PYTORCH, UNIT),
    (UNIT, PYTORCH),
    (PYTORCH, RAW),
    (RAW, CAFFE),
    (UNIT, RAW),
]


@pytest.mark.parametrize(('student', 'teacher'), PAIRS)
def test_images_are_brought_from_one_normalisation_to_the_other(padded_batch, student, teacher):
    student, teacher = DetDataPreprocessor(**student), DetDataPreprocessor(**teacher)
    data, theirs = (preprocess(copy.deepcopy(padded_batch)) for preprocess in (student, teacher))
    assert not normalise_alike(student, teacher)
    seen = renormalise(data['inputs'], student, teacher, data['data_samples'])
    # In float32, pixels up to 255 and back.
    assert torch.allclose(seen, theirs['inputs'], atol=1e-4)
    assert torch.equal(seen[1, :, 80:], theirs['inputs'][1, :, 80:])
    assert torch.equal(seen[1, :, :, 96:], theirs['inputs'][1, :, :, 96:])


@pytest.mark.parametrize(('student', 'teacher'), PAIRS[:3])
def test_padding_is_found_by_its_value(padded_batch, student, teacher):
    student, teacher = DetDataPreprocessor(**student), DetDataPreprocessor(**teacher)
    ours, theirs = (preprocess(copy.deepcopy(padded_batch))['inputs'] for preprocess in (student, teacher))
    assert torch.allclose(renormalise(ours, student, teacher), theirs, atol=1e-4)


def test_what_counts_as_alike():
    assert normalise_alike(DetDataPreprocessor(**CAFFE), DetDataPreprocessor(**CAFFE))
    assert normalise_alike(DetDataPreprocessor(), DetDataPreprocessor(pad_size_divisor=32))
    for changes in (dict(bgr_to_rgb=True), dict(pad_value=1), dict(std=[1.0, 1.0, 2.0])):
        assert not normalise_alike(DetDataPreprocessor(**CAFFE), DetDataPreprocessor(**{**CAFFE, **changes}))


@pytest.mark.parametrize('preprocessor', [RAW, UNIT, None])
def test_in_a_training_step(model_cfg, build_model, write_teacher, padded_batch, preprocessor):
    cfg = copy.deepcopy(model_cfg)
    cfg['data_preprocessor'] = preprocessor and dict(type='DetDataPreprocessor', pad_size_divisor=32, **preprocessor)
    teacher = write_teacher(cfg, MODELS.build(cfg))
    hint = [dict(at='backbone.0', loss=dict(type='FeatureImitationLoss'))]
    model = build_model(type='PersonSearchDistiller', teacher=teacher, distillation=hint)
    seen, extract = [], model.teacher.model.extract_feat
    model.teacher.model.extract_feat = lambda x: seen.append(x) or extract(x)
    losses = model(**model.data_preprocessor(copy.deepcopy(padded_batch), training=True), mode='loss')
    assert torch.isfinite(losses['distill/loss_backbone.0'])
    own = DetDataPreprocessor(pad_size_divisor=32, **(preprocessor or {}))
    assert torch.allclose(seen[0], own(copy.deepcopy(padded_batch))['inputs'].float(), atol=1e-4)
