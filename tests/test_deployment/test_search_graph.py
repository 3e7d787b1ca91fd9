"""The graph that is exported gives what the model gives."""

import copy

import pytest
import torch

from mmps_kd.deployment import SearchGraph
from mmps_kd.errors import UserError

# Little padding, or none: in much of it all anchors have one score, and who comes first is chance.
SIZES = [(96, 128), (93, 125), (158, 60), (30, 190)]
CONFIGS = [
    'demo/oim_r18-quarter_mini.py',
    'demo/seqnet_r18-quarter_mini.py',
    'oim/oim_r18_20e_cuhk-sysu.py',
    'oim/oim_r50-fpn_20e_cuhk-sysu.py',
    'seqnet/seqnet_r18-fpn_20e_cuhk-sysu.py',
    'seqnet/seqnet_r18_20e_cuhk-sysu.py',
    'nae/nae_r50_22e_cuhk-sysu.py',
]


@pytest.mark.parametrize('config', CONFIGS)
def test_it_finds_whom_the_model_finds(spread_model, predict, noise, config):
    model = spread_model(config)
    graph = SearchGraph(model)
    for size in SIZES:
        expected = predict(model, noise(*size))
        assert len(expected[0]) > 1
        for value, own in zip(graph(noise(*size)), expected, strict=True):
            torch.testing.assert_close(value, own, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('config', CONFIGS[:2])
def test_nobody(spread_model, noise, config):
    boxes, scores, embeddings = SearchGraph(spread_model(config, score_thr=1.0))(noise(96, 128))
    assert boxes.shape == (0, 4)
    assert scores.shape == (0,)
    assert embeddings.shape == (0, 128)


def test_the_norm_can_decide_in_the_second_head(spread_model, predict, noise):
    model = spread_model(CONFIGS[1])
    by_first = SearchGraph(model)(noise(96, 128))[1]
    model.roi_head.first_cls_score = False
    _, scores, _ = SearchGraph(model)(noise(96, 128))
    assert not torch.equal(scores, by_first)
    torch.testing.assert_close(scores, predict(model, noise(96, 128))[1])


def test_proposals_without_area_take_no_part(spread_model, predict, noise):
    model = spread_model(CONFIGS[0])
    # Boxes are moved far to the left, where the image's border flattens most of them.
    model.rpn_head.rpn_reg.bias.data.view(-1, 4)[:, 0] -= 0.8
    expected = predict(model, noise(96, 128))
    for value, own in zip(SearchGraph(model)(noise(96, 128)), expected, strict=True):
        torch.testing.assert_close(value, own, rtol=1e-5, atol=1e-5)


def test_the_model_stays_as_it_is(spread_model, predict, noise):
    model = spread_model(CONFIGS[0]).train()
    before = copy.deepcopy(model.state_dict())
    SearchGraph(model)(noise(96, 128))
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert model.training
    assert model.rpn_head.rpn_conv.weight.requires_grad


@pytest.mark.parametrize('part', ['rpn', 'rcnn', 'second'])
def test_other_suppression_is_refused(spread_model, part):
    model = spread_model(CONFIGS[1])
    cfg = {'rpn': model.rpn_head.test_cfg, 'rcnn': model.roi_head.test_cfg, 'second': model.roi_head.test_cfg.second}
    cfg[part].nms.type = 'soft_nms'
    with pytest.raises(UserError, match='NMS of type soft_nms cannot be exported'):
        SearchGraph(model)
