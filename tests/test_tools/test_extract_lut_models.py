"""SeqNet and QEEPS as teachers of identities: their tables are made by the same tool."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmps_kd.apis.lut import build_train_set
from mmps_kd.models.distillers import check_lut, load_lut
from mmps_kd.models.utils.checkpoint_io import load_teacher

ROOT = Path(__file__).resolve().parents[2]
LUT_KEY = 'roi_head.reid_head.loss_oim.lut'


def by_second_stage(model, inputs, boxes):
    """SeqNet: people are embedded by the second head."""
    return model.roi_head.forward_second(model.extract_feat(inputs), F.pad(boxes, (1, 0)))[1]


def as_own_partner(model, inputs, boxes):
    """QEEPS: without a query, the image is its own partner."""
    _, x = model.backbone.forward_pair(inputs, inputs)
    return model.roi_head.embed(x, [boxes])[0]


# Config, where its data set stands, how people are embedded.
TEACHERS = {
    'seqnet': ('seqnet_r18-quarter_mini.py', 'train_dataloader.dataset', by_second_stage),
    'qeeps': ('qeeps_r18-quarter_mini.py', 'train_dataloader.dataset.dataset', as_own_partner),
}


@pytest.fixture(scope='module', params=TEACHERS)
def kind(request):
    return request.param


@pytest.fixture(scope='module')
def overrides(kind, tiny_cuhk_sysu):
    return {
        'model.roi_head.reid_head.loss_oim.num_identities': 6,
        f'{TEACHERS[kind][1]}.data_root': str(tiny_cuhk_sysu),
        'test_dataloader.num_workers': 0,
        'test_dataloader.persistent_workers': False,
    }


@pytest.fixture(scope='module')
def cfg(kind, overrides):
    cfg = Config.fromfile(ROOT / 'configs/demo' / TEACHERS[kind][0])
    cfg.merge_from_dict(overrides)
    return cfg


@pytest.fixture(scope='module')
def teacher(cfg, tmp_path_factory):
    """An untrained teacher's checkpoint as the runner writes one, its table filled, QSSE's weights random."""
    init_default_scope('mmdet')
    torch.manual_seed(0)
    state_dict = MODELS.build(cfg.model).state_dict()
    state_dict[LUT_KEY] = 3 * torch.randn(6, 128)
    for key in state_dict:
        if key.startswith('backbone.qsse'):
            state_dict[key] = torch.randn_like(state_dict[key])
    path = tmp_path_factory.mktemp('teacher') / 'epoch_1.pth'
    torch.save(dict(state_dict=state_dict, meta=dict(dataset_meta=build_train_set(cfg).metainfo)), path)
    return path


@pytest.fixture
def extract(monkeypatch, kind, overrides, cfg, teacher, tmp_path):
    """Run the tool; returns the table, which must fit the training set."""

    def run(source):
        options = [f'{key}={value}' for key, value in overrides.items()]
        out = tmp_path / 'lut.safetensors'
        config = ROOT / 'configs/demo' / TEACHERS[kind][0]
        arguments = [config, teacher, '--out', out, '--source', source, '--cfg-options', *options]
        monkeypatch.setattr(sys, 'argv', ['extract_lut.py', *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(ROOT / 'tools/extract_lut.py'), run_name='__main__')
        assert stopped.value.code == 0
        table = load_lut(out)
        check_lut(table, 'CUHK-SYSU', build_train_set(cfg).metainfo['identities'], 128)
        return table

    return run


def test_memory(extract, teacher):
    stored = torch.load(teacher, weights_only=True)['state_dict'][LUT_KEY]
    assert torch.equal(extract('memory').rows, F.normalize(stored, dim=1))


def test_boxes(extract, kind, cfg, teacher):
    model = load_teacher(cfg, torch.load(teacher, weights_only=True)['state_dict'], 'teacher')
    sums = np.zeros((6, 128))
    for sample in build_train_set(cfg):
        data = model.data_preprocessor(dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']]), False)
        people = data['data_samples'][0].gt_instances
        with torch.no_grad():
            embeddings = TEACHERS[kind][2](model, data['inputs'], people.bboxes)
        for embedding, pid in zip(embeddings.double().numpy(), people.pids.tolist(), strict=True):
            if pid >= 0:
                sums[pid] += embedding / np.linalg.norm(embedding)
    expected = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    assert extract('boxes').rows.numpy() == pytest.approx(expected, abs=1e-5)
