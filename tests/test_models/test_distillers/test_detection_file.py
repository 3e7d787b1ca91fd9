"""Detections from a file teach RPN and box head: their boxes follow the image, and files are checked."""

import copy
import json

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config

from mmps_kd.errors import UserError
from mmps_kd.models.distillers import DetectionFile

PEOPLE = [([[10, 8, 40, 88]], [3]), ([[20, 10, 50, 90]], [0])]
LOSSES = dict(cls=dict(type='LogitDistillationLoss'), bbox=dict(type='BoundedRegressionLoss'))
TERMS = [dict(at=f'{stage}.{answer}', loss=LOSSES[answer]) for stage in ('rpn', 'roi') for answer in ('cls', 'bbox')]


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def result(image, box, score=0.8, category=1):
    x1, y1, x2, y2 = box
    return dict(image_id=image, bbox=[x1, y1, x2 - x1, y2 - y1], score=score, category_id=category)


def test_a_training_step(build_model, make_batch, tmp_path):
    # The small images are halved on the way in.
    boxes = [[2 * side for side in box] for (box,), _ in PEOPLE]
    path = write(tmp_path / 'd.json', [result(f'{i}.jpg', box) for i, box in enumerate(boxes)])
    model = build_model(type='PersonSearchDistiller', teacher=dict(detections=path), distillation=TERMS)
    batch = make_batch(PEOPLE)
    for sample in batch['data_samples']:
        sample.set_metainfo(dict(homography_matrix=np.diag([0.5, 0.5, 1.0])))
    data = model.data_preprocessor(copy.deepcopy(batch), training=True)
    outputs = model.forward_train(data['inputs'], data['data_samples'])
    taught = model.forward_teacher(data['inputs'], outputs, data['data_samples'])
    # People's true boxes are among the RoIs: what was found there has score and box of the file.
    for position, (box, _) in enumerate(PEOPLE):
        true = (outputs.roi.rois == torch.tensor([position, *box[0]])).all(dim=1)
        assert taught.roi.known[true].all()
        assert taught.roi.cls_score[true].softmax(dim=1)[:, 0].tolist() == pytest.approx([0.8] * int(true.sum()))
        assert taught.roi.bbox_pred[true].abs().max() < 1e-5
    assert not taught.roi.known.all()
    losses = model(**data, mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert all(losses[f'distill/loss_{term["at"]}'].isfinite() for term in TERMS)
    assert model.teachers()['teacher']['config'] == 'd.json'


def test_features_are_refused(build_model, tmp_path):
    path = write(tmp_path / 'd.json', [result('0.jpg', PEOPLE[0][0][0])])
    hint = [dict(at='backbone.0', loss=dict(type='FeatureImitationLoss'))]
    with pytest.raises(UserError, match=r"at 'backbone\.0': d\.json is a file of detections, which has no features"):
        build_model(type='PersonSearchDistiller', teacher=dict(detections=path), distillation=hint)


def test_forms_of_the_file(tmp_path):
    box = [1.0, 2, 11, 22]
    entries = [result('a.jpg', box, 0.3), result('a.jpg', box, 0.9), result('b.jpg', box, category=2)]
    by_name = DetectionFile(write(tmp_path / 'd.json', entries), category_id=1)
    assert by_name.detections.keys() == {'a.jpg'}
    assert by_name.detections['a.jpg'][:, :4].tolist() == [box, box]
    assert by_name.detections['a.jpg'][:, 4].tolist() == pytest.approx([0.9, 0.3])
    images = [dict(id=7, file_name='a.jpg'), dict(id=8, file_name='b.jpg')]
    numbered = [{**entry, 'image_id': {'a.jpg': 7, 'b.jpg': 8}[entry['image_id']]} for entry in entries]
    by_id = DetectionFile(write(tmp_path / 'e.json', dict(images=images, annotations=numbered)))
    assert {name: len(rows) for name, rows in by_id.detections.items()} == {'a.jpg': 2, 'b.jpg': 1}
    by_id.check({'b.jpg', 'c.jpg'})
    with pytest.raises(UserError, match=r'e\.json names no image of the training set: its first is a\.jpg, .* c\.jpg'):
        by_id.check({'c.jpg'})


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('[', r'd\.json is damaged or no JSON'),
        ([], r'd\.json has no detection of category_id=1'),
        ([result('a.jpg', [0, 0, 1, 1], category=3)], r'd\.json has no detection of category_id=1'),
        ([dict(image_id='a.jpg', category_id=1)], 'detection 0 has wrong or missing fields'),
        ([result('a.jpg', [0, 0, 1, 1]), dict(bbox=3, category_id=1)], 'detection 1 has wrong or missing fields'),
        (dict(annotations=[]), 'has wrong or missing fields'),
    ],
)
def test_files_that_cannot_be_used(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        DetectionFile(write(tmp_path / 'd.json', content), category_id=1)


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match='there is no file of detections none.json'):
        DetectionFile('none.json')


@pytest.mark.parametrize('flip', [0.0, 1.0])
def test_boxes_go_through_the_pipeline(repo_root, tiny_cuhk_sysu, tmp_path, flip):
    cfg = Config.fromfile(repo_root / 'configs/demo/oim_r18-narrow_mini.py').train_dataloader.dataset
    cfg.data_root = str(tiny_cuhk_sysu)
    cfg.pipeline[2:4] = [
        dict(type='Resize', scale=(211, 150), keep_ratio=True),
        dict(type='RandomFlip', prob=flip),
        dict(type='AlignPids', transforms=[dict(type='RandomCrop', crop_size=(0.9, 0.9), crop_type='relative')]),
    ]
    dataset = DATASETS.build(cfg)
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    entries = [result(info['img_name'], person['bbox']) for info in infos for person in info['instances']]
    teacher = DetectionFile(write(tmp_path / 'd.json', entries))
    seen = 0
    for index in range(5):
        sample = dataset[index]['data_samples']
        (found,) = teacher.detect_people(torch.zeros(1, 3, 8, 8), [sample])
        for box in sample.gt_instances.bboxes.tensor:
            assert (found.bboxes - box).abs().max(dim=1).values.min() < 1e-2
            seen += 1
    assert seen > 5
