"""The teacher's vector of every box: it follows its box through the pipeline, and needs no identity."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import DATASETS
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import Config

from mmps_kd.apis.lut import build_train_set
from mmps_kd.datasets import boxes_sha256
from mmps_kd.errors import UserError
from mmps_kd.models.distillers import BoxLUT, LookUpTable, load_lut, save_lut
from mmps_kd.testing.synthetic import write_dataset

PEOPLE = [([[10, 8, 40, 88], [60, 20, 90, 92]], [3, -1]), ([[20, 10, 50, 90]], [-1])]
ID = dict(type='IDFeatureLoss', distance='cosine')


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def write(path, rows, mirrored=None, dataset='CUHK-SYSU', digest='ab'):
    save_lut(path, LookUpTable(rows, dataset, digest, 'model', 'net.onnx', '0' * 64, level='box', mirrored=mirrored))
    return str(path)


@pytest.fixture
def numbered(make_batch):
    """A batch whose three boxes have the numbers 4, 2 and 5, in a plain and in a mirrored image."""
    batch = make_batch(PEOPLE)
    for sample, ids, flip in zip(batch['data_samples'], ([4, 2], [5]), (False, True), strict=True):
        sample.gt_instances.box_ids = torch.tensor(ids)
        sample.set_metainfo(dict(flip=flip))
    return batch


def test_file(tmp_path):
    rows, mirrored = unit(3, 4), unit(3, 4, seed=1)
    table = load_lut(write(tmp_path / 't.safetensors', rows, mirrored))
    assert (table.level, table.source) == ('box', 'model')
    assert torch.equal(table.rows, rows)
    assert torch.equal(table.mirrored, mirrored)
    crops = BoxLUT(table.file, dim=4).crop_rows()
    assert torch.equal(crops[[0, 2, 4]], rows)
    assert torch.equal(crops[[1, 3, 5]], mirrored)
    plain = BoxLUT(write(tmp_path / 'plain.safetensors', rows), dim=4).crop_rows()
    assert torch.equal(plain[[1, 3, 5]], rows)
    smaller = BoxLUT(table.file, dim=2, projection=dict(type='pca'))
    assert smaller.table.rows.shape == smaller.table.mirrored.shape == (3, 2)


def test_tables_are_not_mistaken_for_each_other(tmp_path, lut, build_model):
    path = write(tmp_path / 'boxes.safetensors', unit(6, 16))
    with pytest.raises(UserError, match=r'boxes\.safetensors has a row for each box: extract it with --level identity'):
        build_model(type='PersonSearchDistiller', lut=dict(type='LUTDistiller', lut_file=path))
    with pytest.raises(UserError, match=r'lut\.safetensors has a row for each identity: extract it with --level box'):
        build_model(type='PersonSearchDistiller', box_lut=dict(lut_file=lut['lut_file']))
    with pytest.raises(UserError, match='compares with a table: configure box_lut'):
        term = dict(at='roi.embedding', table='box', loss=ID)
        build_model(type='PersonSearchDistiller', lut=lut, distillation=[term])


@pytest.mark.parametrize(
    ('found', 'message'),
    [
        (('PRW', 3, 'ab'), 'a table of 3 boxes of CUHK-SYSU, the training set has 3 boxes of PRW: extract it'),
        (('CUHK-SYSU', 4, 'ab'), 'the training set has 4 boxes of CUHK-SYSU: extract it'),
        (('CUHK-SYSU', 3, 'cd'), 'has 3 boxes of CUHK-SYSU, others: extract it'),
    ],
)
def test_of_another_training_set(tmp_path, found, message):
    table = BoxLUT(write(tmp_path / 't.safetensors', unit(3, 4)), dim=4)
    table.check('CUHK-SYSU', 3, 'ab')
    with pytest.raises(UserError, match=message):
        table.check(*found)


@pytest.mark.parametrize('weigh_by_iou', [False, True])
def test_each_roi_is_compared_with_its_own_box(build_model, tmp_path, numbered, weigh_by_iou):
    rows, mirrored = unit(6, 16), unit(6, 16, seed=1)
    path = write(tmp_path / 't.safetensors', rows, mirrored)
    term = dict(at='roi.embedding', table='box', loss=ID, weigh_by_iou=weigh_by_iou)
    model = build_model(type='PersonSearchDistiller', box_lut=dict(lut_file=path), distillation=[term])
    data = model.data_preprocessor(copy.deepcopy(numbered), training=True)
    outputs = model.forward_train(data['inputs'], data['data_samples'])
    expected, start = [], 0
    samples = data['data_samples']
    for sample, result, table in zip(samples, outputs.roi.sampling_results, (rows, mirrored), strict=True):
        for roi, person in zip(result.pos_priors, result.pos_assigned_gt_inds.tolist(), strict=True):
            cosine = outputs.roi.embeddings[start] @ table[sample.gt_instances.box_ids[person]]
            overlap = bbox_overlaps(roi[None], sample.gt_instances.bboxes[person][None])[0, 0]
            expected.append((1 - cosine) * (overlap if weigh_by_iou else 1))
            start += 1
    assert start == len(outputs.roi.embeddings) > 3
    loss = model.distillation[0](outputs, None)
    assert loss.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)


def test_nobody_needs_an_identity(build_model, tmp_path, numbered):
    for sample in numbered['data_samples']:
        sample.gt_instances.pids[:] = -1
    path = write(tmp_path / 't.safetensors', unit(6, 16))
    losses = [dict(type='EmbeddingRelationLoss', feat_channels=16, queue_size=8), dict(ID)]
    terms = [dict(at='roi.embedding', table='box', name=loss['type'], loss=loss) for loss in losses]
    model = build_model(type='PersonSearchDistiller', box_lut=dict(lut_file=path), distillation=terms)
    values = model(**model.data_preprocessor(numbered, training=True), mode='loss')
    assert values['student/loss_oim'].item() == 0
    assert all(values[f'distill/loss_{loss["type"]}'] > 0 for loss in losses)
    total, _ = model.parse_losses(values)
    total.backward()
    assert model.roi_head.reid_head.fc.weight.grad.abs().sum() > 0


def test_a_batch_without_numbers(build_model, tmp_path, make_batch):
    path = write(tmp_path / 't.safetensors', unit(6, 16))
    term = dict(at='roi.embedding', table='box', loss=ID)
    model = build_model(type='PersonSearchDistiller', box_lut=dict(lut_file=path), distillation=[term])
    with pytest.raises(UserError, match='end the training pipeline with PackPersonSearchInputs'):
        model(**model.data_preprocessor(make_batch(PEOPLE), training=True), mode='loss')


@pytest.fixture
def cfg(repo_root, tiny_cuhk_sysu):
    cfg = Config.fromfile(repo_root / 'configs/demo/oim_r18-narrow_mini.py')
    cfg.train_dataloader.dataset.data_root = str(tiny_cuhk_sysu)
    return cfg


@pytest.mark.parametrize(
    'steps',
    [
        [dict(type='RandomFlip', prob=1.0)],
        [dict(type='AlignPids', transforms=[dict(type='RandomCrop', crop_size=(0.6, 0.6), crop_type='relative')])],
    ],
    ids=['flip', 'crop'],
)
def test_numbers_follow_their_boxes(cfg, steps):
    plain = build_train_set(cfg)
    pipeline = cfg.train_dataloader.dataset.pipeline
    changed = DATASETS.build({**cfg.train_dataloader.dataset, 'pipeline': [*pipeline[:2], *steps, pipeline[-1]]})
    infos, seen = [plain.get_data_info(index) for index in range(len(plain))], 0
    for index in range(len(plain)):
        np.random.seed(index)
        # Where a crop drops everybody, another image is taken.
        sample = changed[index]['data_samples']
        (info,) = [info for info in infos if info['img_name'] == sample.img_name]
        boxes = {person['box_id']: person for person in info['instances']}
        height, width = sample.img_shape
        for bbox, number, pid in zip(*(sample.gt_instances[key] for key in ('bboxes', 'box_ids', 'pids')), strict=True):
            x1, y1, x2, y2 = boxes[number.item()]['bbox']
            assert boxes[number.item()]['pid'] == pid
            if sample.get('flip'):
                assert bbox.tensor[0].tolist() == pytest.approx([width - x2, y1, width - x1, y2], abs=1e-3)
            else:
                box = bbox.tensor[0]
                assert (box[2] - box[0] <= x2 - x1 + 1e-3) and (box[3] - box[1] <= y2 - y1 + 1e-3)
            seen += 1
    assert seen > 5


def test_joined_sets_are_numbered_through(cfg, tmp_path):
    part = {**cfg.train_dataloader.dataset, 'dataset_name': 'one'}
    number, digest = boxes_sha256(DATASETS.build(part))
    write_dataset(tmp_path / 'prw', 'prw', 'tiny')
    other = {**part, 'type': 'PRWDataset', 'data_root': str(tmp_path / 'prw'), 'dataset_name': 'two'}
    joined = DATASETS.build(dict(type='ConcatPersonSearchDataset', datasets=[part, other]))
    infos = [joined.get_data_info(i) for i in range(len(joined))]
    ids = [person['box_id'] for info in infos for person in info['instances']]
    assert ids == list(range(len(ids)))
    total, joined_digest = boxes_sha256(joined)
    assert total == len(ids) > number
    assert joined_digest != digest
    repeated = dict(type='RepeatDataset', times=2, dataset=part)
    assert boxes_sha256(DATASETS.build(repeated)) == (number, digest)
