"""The table tool as a user runs it, on a tiny data set, in this process."""

import re
import runpy
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch.utils.data import Subset

from mmps_kd.apis import lut
from mmps_kd.apis.lut import build_train_set
from mmps_kd.datasets import boxes_sha256
from mmps_kd.models.distillers import check_lut, load_lut
from mmps_kd.models.utils.checkpoint_io import file_sha256, load_teacher

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs/demo/oim_r18-narrow_mini.py'
LUT_KEY = 'roi_head.reid_head.loss_oim.lut'
SMALL = {
    'model.backbone.base_channels': 8,
    'model.backbone.stem_channels': 8,
    'model.rpn_head.in_channels': 32,
    'model.rpn_head.feat_channels': 32,
    'model.roi_head.bbox_roi_extractor.out_channels': 32,
    'model.roi_head.bbox_head.in_channels': 32,
    'model.roi_head.reid_head.in_channels': 32,
    'model.roi_head.reid_head.loss_oim.num_identities': 6,
    'test_dataloader.num_workers': 0,
    'test_dataloader.persistent_workers': False,
}


@pytest.fixture(scope='module')
def overrides(tiny_cuhk_sysu):
    return {**SMALL, 'train_dataloader.dataset.data_root': str(tiny_cuhk_sysu)}


@pytest.fixture(scope='module')
def cfg(overrides):
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(overrides)
    return cfg


@pytest.fixture(scope='module')
def teacher(cfg, tmp_path_factory):
    """An untrained teacher's checkpoint as the runner writes one, its table filled."""
    init_default_scope('mmdet')
    torch.manual_seed(0)
    state_dict = MODELS.build(cfg.model).state_dict()
    state_dict[LUT_KEY] = 3 * torch.randn(6, 128)
    path = tmp_path_factory.mktemp('teacher') / 'epoch_1.pth'
    meta = dict(dataset_meta=build_train_set(cfg).metainfo)
    torch.save(dict(state_dict=state_dict, meta=meta), path)
    return path


@pytest.fixture
def extract(monkeypatch, overrides):
    """Run the tool; returns its exit code: 0, or the error's text."""

    def run(*arguments):
        options = [f'{key}={value}' for key, value in overrides.items()]
        monkeypatch.setattr(sys, 'argv', ['extract_lut.py', *map(str, arguments), '--cfg-options', *options])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(ROOT / 'tools/extract_lut.py'), run_name='__main__')
        return stopped.value.code

    return run


def check_provenance(table, cfg, source, teacher=None, teacher_config=CONFIG.name):
    assert (table.source, table.teacher_config) == (source, teacher_config)
    assert table.teacher_sha256 == ('' if teacher is None else file_sha256(teacher))
    check_lut(table, 'CUHK-SYSU', build_train_set(cfg).metainfo['identities'], table.dim)


def test_memory(extract, cfg, teacher, tmp_path, capsys):
    out = tmp_path / 'new/lut.safetensors'
    assert extract(CONFIG, teacher, '--out', out) == 0
    table = load_lut(out)
    check_provenance(table, cfg, 'memory', teacher)
    stored = torch.load(teacher, weights_only=True)['state_dict'][LUT_KEY]
    assert torch.equal(table.rows, F.normalize(stored, dim=1))
    assert capsys.readouterr().out == f'{out}: 6 identities of CUHK-SYSU, 128 dimensions, from memory\n'


def test_boxes(extract, cfg, teacher, tmp_path):
    out = tmp_path / 'lut.safetensors'
    assert extract(CONFIG, teacher, '--out', out, '--source', 'boxes') == 0
    table = load_lut(out)
    check_provenance(table, cfg, 'boxes', teacher)
    model = load_teacher(cfg, torch.load(teacher, weights_only=True)['state_dict'], 'teacher')
    dataset = build_train_set(cfg)
    images = lut.images_with_identities(dataset)
    embed = partial(lut.embed_by_model, model, labelled=True)
    vectors = lut.embed_boxes(embed, Subset(dataset, images), tmp_path / 'p.npz', 'hash')
    assert torch.equal(table.rows, lut.mean_rows(vectors, dataset, images))


def test_a_row_for_each_box(extract, cfg, teacher, tmp_path, capsys):
    out = tmp_path / 'boxes.safetensors'
    assert extract(CONFIG, teacher, '--out', out, '--source', 'boxes', '--level', 'box') == 0
    table, dataset = load_lut(out), build_train_set(cfg)
    assert (table.level, table.source, table.mirrored) == ('box', 'boxes', None)
    number, digest = boxes_sha256(dataset)
    assert (len(table.rows), table.pids_sha256) == (number, digest)
    assert f'{number} boxes of CUHK-SYSU' in capsys.readouterr().out


@pytest.mark.parametrize('dynamic', [True, False])
def test_a_reid_network(extract, cfg, tmp_path, dynamic, write_means_network):
    network = write_means_network(tmp_path / 'means.onnx', dynamic)
    given = ('--source', 'model', '--model', network, '--preset', 'omz')
    assert extract(CONFIG, '--out', tmp_path / 'boxes.safetensors', *given, '--level', 'box', '--mirror') == 0
    table, dataset = load_lut(tmp_path / 'boxes.safetensors'), build_train_set(cfg)
    assert (table.level, table.source, table.teacher_config) == ('box', 'model', 'means.onnx')
    assert table.teacher_sha256 == file_sha256(network)
    # The mean of a resized crop is that of its mirror image.
    assert torch.allclose(table.rows, table.mirrored, atol=1e-5)
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    expected = []
    for info in infos:
        image = cv2.imread(info['img_path'])
        for person in info['instances']:
            (x1, y1), (x2, y2) = np.floor(person['bbox'][:2]), np.ceil(person['bbox'][2:])
            resized = cv2.resize(image[int(y1) : int(y2), int(x1) : int(x2)], (4, 8))
            mean = resized.mean(axis=(0, 1))
            expected.append(mean / np.linalg.norm(mean))
    assert table.rows.numpy() == pytest.approx(np.array(expected), abs=1e-5)

    assert extract(CONFIG, '--out', tmp_path / 'lut.safetensors', *given) == 0
    table = load_lut(tmp_path / 'lut.safetensors')
    check_lut(table, 'CUHK-SYSU', dataset.metainfo['identities'], 3)
    pids = [person['pid'] for info in infos for person in info['instances']]
    first = np.mean([vector for vector, pid in zip(expected, pids, strict=True) if pid == 0], axis=0)
    assert table.rows[0].numpy() == pytest.approx(first / np.linalg.norm(first), abs=1e-5)


@pytest.mark.parametrize('source', ['boxes', 'model'])
def test_boxes_interrupted(extract, teacher, tmp_path, monkeypatch, source, write_means_network):
    """The table after an interruption is the same, and nothing is left behind."""
    monkeypatch.setattr(lut, 'SAVE_EVERY', 2)
    given = [CONFIG, teacher, '--source', 'boxes']
    if source == 'model':
        given = [CONFIG, '--source', 'model', '--model', write_means_network(tmp_path / 'net.onnx'), '--level', 'box']
        given += ['--preset', 'omz']
    whole, out = tmp_path / 'whole.safetensors', tmp_path / 'lut.safetensors'
    assert extract(*given, '--out', whole) == 0
    write, calls = lut.write_npz, []

    def write_once(*arguments, **arrays):
        if calls:
            raise SystemExit('interrupted')
        calls.append(write(*arguments, **arrays))

    monkeypatch.setattr(lut, 'write_npz', write_once)
    assert extract(*given, '--out', out) == 'interrupted'
    assert [path.name for path in tmp_path.glob('lut.*')] == ['lut.safetensors.partial.npz']
    monkeypatch.setattr(lut, 'write_npz', write)
    assert extract(*given, '--out', out) == 0
    assert torch.equal(load_lut(out).rows, load_lut(whole).rows)
    assert not list(tmp_path.glob('*.partial.npz'))


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (['--source', 'model', '--model', 'none.onnx'], 'there is no re-identification network none.onnx'),
        (['--source', 'model', '--model', CONFIG], r'is no \.onnx file and no \.xml file'),
        (['--source', 'model', '--model', 'damaged.onnx'], r'damaged\.onnx cannot be read: '),
        (
            ['--source', 'model', '--model', 'net.onnx', '--input-size', '9', '4'],
            'takes crops of 8x4 pixels, not of 9x4',
        ),
    ],
)
def test_networks_that_cannot_be_used(extract, tmp_path, monkeypatch, given, message, write_means_network):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'damaged.onnx').write_text('no network')
    write_means_network('net.onnx')
    assert re.search(message, str(extract(CONFIG, '--out', 'lut.safetensors', *given)))


def test_features(extract, cfg, tmp_path):
    identities = build_train_set(cfg).metainfo['identities']
    features, out = tmp_path / 'vectors.npz', tmp_path / 'lut.safetensors'
    np.savez(features, features=np.eye(6, 9, dtype=np.float32), pids=np.array(identities[::-1]))
    assert extract(CONFIG, '--out', out, '--source', 'features', '--features', features) == 0
    table = load_lut(out)
    check_provenance(table, cfg, 'features', teacher_config='vectors.npz')
    assert torch.equal(table.rows, torch.eye(6, 9).flip(0))


@pytest.mark.parametrize('source', ['memory', 'boxes'])
def test_weights_alone(extract, teacher, tmp_path, source):
    torch.save(torch.load(teacher, weights_only=True)['state_dict'], tmp_path / 'weights.pth')
    tables = []
    for name, checkpoint in (('whole', teacher), ('alone', tmp_path / 'weights.pth')):
        out = tmp_path / f'{name}.safetensors'
        assert extract(CONFIG, checkpoint, '--out', out, '--source', source) == 0
        tables.append(load_lut(out))
    assert torch.equal(tables[0].rows, tables[1].rows)
    assert tables[0].pids_sha256 == tables[1].pids_sha256


def test_row_never_written(extract, cfg, teacher, tmp_path):
    checkpoint = torch.load(teacher, weights_only=True)
    checkpoint['state_dict'][LUT_KEY][4] = 0
    torch.save(checkpoint, tmp_path / 't.pth')
    error = extract(CONFIG, tmp_path / 't.pth', '--out', tmp_path / 'lut.safetensors')
    name = build_train_set(cfg).metainfo['identities'][4]
    assert error.startswith(f'error: no vector for identity {name} (row 4)')
    assert not (tmp_path / 'lut.safetensors').exists()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([CONFIG, 'absent.pth'], 'error: there is no checkpoint absent.pth'),
        (['absent.py', CONFIG], 'error: there is no config file absent.py'),
        ([CONFIG, CONFIG], f'error: checkpoint {CONFIG} cannot be read'),
        ([CONFIG, '--source', 'features', '--features', 'absent.npz'], 'error: there is no features file absent.npz'),
    ],
)
def test_files_that_are_not_there(extract, tmp_path, arguments, message):
    error = extract(*arguments, '--out', tmp_path / 'lut.safetensors')
    assert error.startswith(message)
    assert '\n' not in error


@pytest.mark.parametrize(
    'arguments',
    [
        [CONFIG],
        [CONFIG, '--source', 'boxes'],
        [CONFIG, '--source', 'features'],
        [CONFIG, 't.pth', '--source', 'features', '--features', 'f.npz'],
        [CONFIG, 't.pth', '--features', 'f.npz'],
        [CONFIG, '--source', 'model'],
        [CONFIG, 't.pth', '--model', 'net.onnx'],
        [CONFIG, '--source', 'features', '--features', 'f.npz', '--level', 'box'],
        [CONFIG, '--source', 'model', '--model', 'net.onnx', '--mirror'],
    ],
)
def test_arguments_that_do_not_go_together(extract, tmp_path, capsys, arguments):
    assert extract(*arguments, '--out', tmp_path / 'lut.safetensors') == 2
    assert re.search('error: --(source|level|mirror) .*goes with', capsys.readouterr().err)
