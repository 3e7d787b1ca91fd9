"""Published checkpoints of SeqNet, NAE and OIMNet++ become this package's."""

import copy
import importlib.util
import json
import runpy
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox2roi
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from mmps_kd.apis.init_model import init_model
from mmps_kd.apis.init_model import test_pipeline as pipeline_of
from mmps_kd.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
SMALL_CASE = ROOT / 'tests/data/seqnet_small.json'
BACK = {
    'backbone.': 'backbone.',
    'rpn_head.rpn_conv.': 'rpn.head.conv.0.0.',
    'rpn_head.rpn_cls.': 'rpn.head.cls_logits.',
    'rpn_head.rpn_reg.': 'rpn.head.bbox_pred.',
    'roi_head.reid_head.before.': 'roi_heads.embedding_head.projectors.feat_res4.',
    'roi_head.reid_head.fc.': 'roi_heads.embedding_head.projectors.feat_res5.0.',
    'roi_head.reid_head.bn.': 'roi_heads.embedding_head.projectors.feat_res5.1.',
    'roi_head.reid_head.rescaler.': 'roi_heads.embedding_head.rescaler.',
    'roi_head.reid_head.loss_oim.lut': 'roi_heads.reid_loss.lut',
    'roi_head.reid_head.loss_oim.queue_head': None,
    'roi_head.reid_head.loss_oim.queue': 'roi_heads.reid_loss.cq',
}
SEQNET_BACK = {
    'roi_head.shared_head.': 'roi_heads.box_head.',
    'roi_head.second_shared_head.': 'roi_heads.reid_head.',
    'roi_head.bbox_head.fc_cls.': 'roi_heads.faster_rcnn_predictor.cls_score.',
    'roi_head.bbox_head.fc_reg.': 'roi_heads.faster_rcnn_predictor.bbox_pred.',
    'roi_head.second_bbox_head.fc_reg.': 'roi_heads.box_predictor.bbox_pred.',
}
NAE_BACK = {
    'roi_head.shared_head.': 'roi_heads.box_head.',
    'roi_head.bbox_head.fc_reg.': 'roi_heads.box_predictor.bbox_pred.',
}
OIMNETPP_BACK = {
    'roi_head.shared_head.': 'roi_heads.reid_head.',
    'roi_head.bbox_head.fc_cls.': 'roi_heads.box_predictor.bbox_cls.',
    'roi_head.bbox_head.fc_reg.': 'roi_heads.box_predictor.bbox_pred.',
}


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('convert_seqnet', ROOT / 'tools/model_converters/seqnet.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def as_published(state, back):
    """Rename a state dict of ours as published, with the numbers of the background that torchvision has besides."""
    published = {}
    for key, value in state.items():
        prefix = next(prefix for prefix in (*back, *BACK) if key.startswith(prefix))
        place = {**BACK, **back}[prefix]
        if place is None:
            continue
        if '.fc_cls.' in key:
            value = value.flip(0)
        elif '.fc_reg.' in key and value.ndim:
            value = torch.cat([torch.full_like(value, 7), value])
        published[place + key.removeprefix(prefix)] = value
    return published


def drawn(key, value):
    """A value for a tensor by its key alone."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    if not value.is_floating_point():
        return torch.zeros_like(value)
    x = rng.standard_normal(value.shape)
    if key.endswith('running_var'):
        x = 0.75 + 0.5 * rng.random(value.shape)
    elif value.ndim > 1:
        x *= np.sqrt(2 / x[0].size)
        # Boxes stay near their anchors, and scores apart from 0 and 1.
        x *= 0.01 if any(part in key for part in ('cls_logits', 'cls_score', 'bbox_pred')) else 1.0
    elif key.endswith('weight'):
        x = 1 + 0.1 * x
    else:
        x *= 0.05
    return torch.from_numpy(x).float()


def prepare(cfg, image, scale, queries):
    steps = [step for step in pipeline_of(cfg) if not step['type'].startswith('Load')]
    steps[0]['scale'] = scale
    queries = dict(boxes=queries.astype(np.float32), ids=np.arange(len(queries)))
    return Compose(steps)(dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2], queries=queries))


@pytest.mark.parametrize(
    ('config', 'back', 'name'),
    [
        ('seqnet/seqnet_r18_20e_cuhk-sysu', SEQNET_BACK, 'SeqNet'),
        ('nae/nae_r50_22e_cuhk-sysu', NAE_BACK, 'NAE'),
        ('oimnetpp/oimnetpp_r50_20e_cuhk-sysu', OIMNETPP_BACK, 'OIMNet++'),
    ],
)
def test_there_and_back(tool, config, back, name):
    with torch.device('meta'):
        keys = MODELS.build(Config.fromfile(ROOT / f'configs/{config}.py').model).state_dict()
    state = {key: torch.rand(value.shape) if value.ndim else torch.tensor(0) for key, value in keys.items()}
    if name == 'OIMNet++':  # without scale, shift and bias; its table is in half precision
        state |= {key: torch.zeros(256) for key in ('roi_head.reid_head.fc.bias', 'roi_head.reid_head.bn.bias')}
        state['roi_head.reid_head.bn.weight'] = torch.ones(256)
    published = as_published(state, back)
    unused = {}
    if name == 'OIMNet++':
        embedding = 'roi_heads.embedding_head.projectors.feat_res5.'
        for key in ('0.bias', '1.bias', '1.weight'):
            del published[embedding + key]
        published['roi_heads.reid_loss.lut'] = published['roi_heads.reid_loss.lut'].half()
        state['roi_head.reid_head.loss_oim.lut'] = published['roi_heads.reid_loss.lut'].float()
        unused = {'roi_heads.box_head.layer4.0.conv1.weight': torch.zeros(1)}
    if name == 'NAE':
        unused = {'roi_heads.box_predictor.cls_score.weight': torch.zeros(2, 2048)}
    published |= unused
    assert tool.recognise(published, 'a.pth') == name
    converted, left_out = tool.convert(published, name, 'a.pth')
    assert left_out == list(unused)
    assert converted.keys() == state.keys()
    assert [key for key in state if not torch.equal(converted[key], state[key])] == []


def test_small_case(tool):
    """Answers of the state of this project that gave those of the published code (:func:`test_published_answers`)."""
    cfg = Config.fromfile(ROOT / 'configs/seqnet/seqnet_r18_20e_cuhk-sysu.py')
    expected = json.loads(SMALL_CASE.read_text())
    cfg.model.test_cfg.rcnn.score_thr = expected['score_thr']
    model = MODELS.build(cfg.model).eval()
    keys = as_published(model.state_dict(), SEQNET_BACK)
    state, _ = tool.convert({key: drawn(key, value) for key, value in keys.items()}, 'SeqNet', 'a.pth')
    model.load_state_dict(state)
    image = np.random.default_rng(0).integers(0, 256, (107, 161, 3), dtype=np.uint8)
    queries = np.array([[10, 20, 60, 95], [90, 5, 130, 90.5]])
    with torch.no_grad():
        batch = pseudo_collate([prepare(cfg, image, (240, 160), queries)])
        sample = model.test_step(batch)[0]
    found = sample.pred_instances
    assert found.scores.tolist() == pytest.approx(expected['scores'], abs=1e-4)
    assert np.abs(found.bboxes.numpy() - expected['boxes']).max() < 0.05
    assert np.abs(found.embeddings[:, :8].numpy() - expected['embeddings']).max() < 1e-3
    assert np.abs(sample.pred_queries.embeddings[:, :8].numpy() - expected['query_embeddings']).max() < 1e-3


def test_published_answers(tool, shared_data, tmp_path):
    folder = shared_data / 'seqnet_golden'
    golden = np.load(folder / 'golden.npz')
    published = runpy.run_path(str(folder / 'make_state_dict.py'))['state_dict']()
    state, left_out = tool.convert(published, tool.recognise(published, 'a.pth'), 'a.pth')
    assert left_out == []
    torch.save(dict(state_dict=state), tmp_path / 'seqnet.pth')
    cfg = Config.fromfile(ROOT / 'configs/seqnet/seqnet_r50_20e_cuhk-sysu.py')
    cfg.model.test_cfg.rcnn.score_thr = float(golden['score_thr'])
    model = init_model(cfg, tmp_path / 'seqnet.pth', 'cpu')
    image = cv2.imread(str(folder / 'image_500x300.png'))
    batch = pseudo_collate([prepare(cfg, image, (500, 300), golden['query_boxes'])])
    with torch.no_grad():
        data = model.data_preprocessor(batch, False)
        x = model.extract_feat(data['inputs'])
        # In float64: the rounding of float32 moves a proposal by up to 1e-3 pixels, on some processors further.
        precise = copy.deepcopy(model).double()
        precise_x = precise.extract_feat(data['inputs'].double())
        (proposals,) = precise.rpn_head.predict(precise_x, data['data_samples'], rescale=False)
        rois = bbox2roi([torch.from_numpy(golden['proposals'])])
        first = model.roi_head._bbox_forward(x, rois)
        (sample,) = model.predict(data['inputs'], data['data_samples'])
    found = sample.pred_instances
    answers = dict(
        feat_res4=(x[0][:, ::64], 5e-5),
        proposals=(proposals.bboxes, 5e-4),
        first_cls_logits=(first['cls_score'].flip(1), 1e-5),
        det_boxes=(found.bboxes, 1e-3),
        det_scores=(found.scores, 1e-5),
        det_embeddings=(found.embeddings * found.scores[:, None], 1e-5),
        query_embeddings=(sample.pred_queries.embeddings, 1e-5),
    )
    differences = {key: np.abs(value.numpy() - golden[key]).max() / tol for key, (value, tol) in answers.items()}
    assert {key: value for key, value in differences.items() if value > 1} == {}
    assert np.abs(first['bbox_pred'].numpy() - golden['first_bbox_deltas'][:, 4:]).max() < 1e-5


@pytest.mark.parametrize(
    ('key', 'message'),
    [
        ('roi_heads.box_head_2nd.layer', 'it looks like COAT: its cascade of transformer heads is not here'),
        ('gfn.head.weight', 'it looks like GFN: its gallery filter network is not here'),
        ('bbox_head.transformer.decoder', 'it looks like PSTR: its transformer decoder is not here'),
        ('bbox_head.cls.weight', 'it looks like AlignPS: its anchor-free head is not here'),
        ('fc.weight', 'is no checkpoint of SeqNet, NAE or OIMNet\\+\\+: roi_heads.embedding_head is missing'),
    ],
)
def test_other_models_are_refused(tool, key, message):
    with pytest.raises(UserError, match=message):
        tool.recognise({key: torch.zeros(1)}, 'a.pth')


def test_a_tensor_without_a_place(tool):
    state = {f'roi_heads.part{i}.weight': torch.zeros(1) for i in range(5)}
    with pytest.raises(UserError, match=r'no place for roi_heads.part0.weight, .*part2.weight and 2 more'):
        tool.convert(state, 'SeqNet', 'a.pth')


@pytest.mark.parametrize('content', [[1, 2], dict(model=dict(a=3))])
def test_no_state_dict(tool, tmp_path, content):
    torch.save(content, tmp_path / 'a.pth')
    with pytest.raises(UserError, match='holds no state dict'):
        tool.read_state_dict(str(tmp_path / 'a.pth'))


def test_table_of_prw(tool, tmp_path):
    from mmps_kd.testing.synthetic import write_dataset

    write_dataset(tmp_path, 'prw', 'tiny')
    table = torch.arange(4.0)[:, None].expand(4, 2)
    mapped, (note,), meta = tool.map_prw(table, str(tmp_path))
    identities = meta['identities']
    expected = [[pid - 1.0] * 2 if pid <= 4 else [0.0, 0.0] for pid in identities]
    assert mapped.tolist() == expected
    dead = [str(pid - 1) for pid in range(1, 5) if pid not in identities]
    leaking = [str(pid) for pid in identities if pid > 4]
    assert f'row {", ".join(dead) or "-"} of the published table is of no identity' in note
    assert f'identity {", ".join(leaking)} has none' in note


def test_as_a_user_runs_it(tmp_path, monkeypatch, capsys):
    config = ROOT / 'configs/nae/nae_r50_22e_prw.py'
    state = MODELS.build(Config.fromfile(config).model).state_dict()
    published = as_published(state, NAE_BACK)
    published['roi_heads.reid_loss.lut'] = torch.rand(482, 256)
    torch.save(dict(model=published, epoch=3), tmp_path / 'nae.pth')

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['seqnet.py', *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(ROOT / 'tools/model_converters/seqnet.py'), run_name='__main__')
        return stop.value.code

    assert run(tmp_path / 'nae.pth', tmp_path / 'out.pth') == 0
    printed = capsys.readouterr().out
    assert 'the OIM table was left out: give --prw' in printed
    assert f'{tmp_path}/out.pth: NAE, for configs/nae/nae_r50_22e_prw.py' in printed
    model = init_model(Config.fromfile(config), tmp_path / 'out.pth', 'cpu')
    assert torch.equal(
        model.roi_head.shared_head.layer4[0].conv1.weight, state['roi_head.shared_head.layer4.0.conv1.weight']
    )

    del published['backbone.conv1.weight']
    torch.save(published, tmp_path / 'nae.pth')
    error = run(tmp_path / 'nae.pth', tmp_path / 'out.pth')
    assert error == f'error: {tmp_path}/nae.pth looks like NAE, but has nothing for backbone.conv1.weight'
