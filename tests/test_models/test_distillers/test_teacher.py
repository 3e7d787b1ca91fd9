"""The teacher: images as its own preprocessor would make them, padding included; its boxes; configs of the zoo."""

import copy

import pytest
import torch
from mmdet.models import DetDataPreprocessor
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.hub import get_config
from mmengine.structures import InstanceData

from mmps_kd.errors import UserError
from mmps_kd.models.distillers.teacher import DetectorTeacher, normalise_alike, renormalise
from mmps_kd.models.distillers.terms import outputs_of_boxes

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


def test_what_boxes_say_about_priors():
    coder = TASK_UTILS.build(dict(type='DeltaXYWHBBoxCoder'))
    priors = torch.tensor([[0.0, 0, 10, 20], [0, 0, 10, 12], [50, 50, 60, 70], [0, 5, 10, 25]])
    found = InstanceData(
        bboxes=torch.tensor([[0.0, 0, 10, 20], [0, 5, 10, 25], [0, 5, 10, 25]]), scores=torch.tensor([0.9, 0.6, 0.3])
    )
    nobody = InstanceData(bboxes=torch.zeros(0, 4), scores=torch.zeros(0))
    outputs = outputs_of_boxes([priors, priors[:1]], [found, nobody], coder, num_logits=2)
    # Of an IoU of 1, 0.6, 0, and 1 with two: the first of these counts. Nobody is seen in the second image.
    assert outputs.known.tolist() == [True, True, False, True, False]
    probabilities = outputs.cls_score.softmax(dim=1)[:, 0]
    assert torch.allclose(probabilities[[0, 1, 3]], torch.tensor([0.9, 0.9, 0.6]))
    boxes = coder.decode(torch.cat([priors, priors[:1]]), outputs.bbox_pred)
    expected = torch.cat([found.bboxes[[0, 0]], priors[2:3], found.bboxes[1:2], priors[:1]])
    assert torch.allclose(boxes, expected, atol=1e-5)
    sigmoid = outputs_of_boxes([priors], [found], coder, num_logits=1)
    assert torch.equal(sigmoid.cls_score[:, 0].sigmoid()[outputs.known[:4]], probabilities[[0, 1, 3]])


def test_boxes_are_in_pixels_of_the_input(model_cfg, build_model, write_teacher, padded_batch):
    teacher = DetectorTeacher(**write_teacher(model_cfg, build_model()), preprocessor=build_model().data_preprocessor)
    teacher.model.roi_head.test_cfg.score_thr = 0.0
    batch = teacher.model.data_preprocessor(padded_batch)
    found = teacher.detect_people(batch['inputs'], batch['data_samples'])
    results = teacher.predict(batch['inputs'], batch['data_samples'])
    for sample, people, result in zip(batch['data_samples'], found, results, strict=True):
        factor = people.bboxes.new_tensor(sample.scale_factor).repeat(2)
        assert len(people) > 0
        assert torch.allclose(people.bboxes, result.pred_instances.bboxes * factor, atol=1e-4)


def test_a_config_of_another_package(build_model, tmp_path):
    cfg = get_config('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py')
    path = tmp_path / 'retinanet.pth'
    torch.save(MODELS.build(cfg.model).state_dict(), path)
    preprocessor = build_model().data_preprocessor
    name = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
    teacher = DetectorTeacher(name, str(path), preprocessor, person_class=0)
    assert type(teacher.model).__name__ == 'RetinaNet'
    assert teacher.num_classes == 80
    for missing in ('mmdet::retinanet/none.py', 'nopackage::retinanet/none.py', 'none.py'):
        with pytest.raises(UserError, match=f'^teacher config {missing} does not exist'):
            DetectorTeacher(missing, str(path), preprocessor)
