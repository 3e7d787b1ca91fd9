"""Query-guided objectness by hand, and whom its anchors are for."""

import math

import pytest
import torch
from mmdet.registry import MODELS

from mmps_kd.models import QRPN, QRPNOutputs
from mmps_kd.models.dense_heads import mark_queries


@pytest.fixture
def qrpn():
    torch.manual_seed(0)
    return QRPN(8, 3, ratio=4, feat_channels=6)


def random(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_one_map_a_level(qrpn):
    logits = qrpn((random(2, 8, 5, 7), random(2, 8, 3, 4)), random(2, 8))
    assert [level.shape for level in logits] == [(2, 3, 5, 7), (2, 3, 3, 4)]


def test_no_query_weight_means_no_opinion():
    qrpn = MODELS.build(dict(type='QRPN', in_channels=8, num_anchors=3))
    qrpn.init_weights()
    torch.nn.init.zeros_(qrpn.excite.weight)
    torch.nn.init.constant_(qrpn.excite.bias, float('-inf'))
    (logits,) = qrpn((random(2, 8, 5, 7),), random(2, 8))
    assert torch.equal(logits, torch.zeros(2, 3, 5, 7))


def test_several_queries_on_one_image_are_as_each_alone(qrpn):
    x, vectors = (random(1, 8, 5, 7),), random(4, 8, seed=2)
    (together,) = qrpn(x, vectors)
    alone = torch.cat([qrpn(x, vector[None])[0] for vector in vectors])
    assert torch.allclose(together, alone, atol=1e-6)
    assert not torch.allclose(together[0], together[1], atol=1e-4)


def test_by_hand():
    qrpn = QRPN(2, 1, ratio=2, feat_channels=1)
    kernel = torch.zeros(1, 2, 3, 3)
    kernel[0, :, 1, 1] = torch.tensor([1.0, 2])
    qrpn.load_state_dict(
        {
            'squeeze.weight': torch.tensor([[1.0, 1]]),
            'squeeze.bias': torch.tensor([-1.0]),
            'excite.weight': torch.tensor([[1.0], [0]]),
            'excite.bias': torch.tensor([0.0, 0]),
            'conv.weight': kernel,
            'conv.bias': torch.tensor([0.0]),
            'cls.weight': torch.full((1, 1, 1, 1), 3.0),
            'cls.bias': torch.tensor([0.25]),
        }
    )
    # Squeezed: 2 + 1 - 1 = 2; weights sigmoid(2) and 1/2; the cells: 1 and -1 in the first channel, 4 and 0.2.
    (logits,) = qrpn((torch.tensor([[[[1.0, -1]], [[4, 0.2]]]]),), torch.tensor([[2.0, 1]]))
    weight = 1 / (1 + math.exp(-2))
    assert logits.flatten().tolist() == pytest.approx([3 * (weight + 4) + 0.25, 0.25])


def test_loss_by_hand():
    """Two levels of one cell, two anchors each; the fourth anchor is not sampled."""
    logits = [torch.tensor([[[[1.0]], [[-2]]]]), torch.tensor([[[[0.5]], [[9]]]])]
    labels = [torch.tensor([[0, 1]]), torch.tensor([[1, 1]])]
    weights = [torch.tensor([[1.0, 1]]), torch.tensor([[1.0, 0]])]
    qrpn = QRPN(2, 2, loss_weight=2.0)
    loss = qrpn.loss(QRPNOutputs(logits, labels, weights, 3))['loss_qrpn']
    expected = [math.log(1 + math.exp(-1)), math.log(1 + math.exp(-2)), math.log(1 + math.exp(0.5))]
    assert loss.item() == pytest.approx(2 * sum(expected) / 3)


def test_loss_has_the_order_of_the_anchors(qrpn):
    """Anchors go cell by cell, the anchors of a cell side by side."""
    logits = torch.full((1, 3, 2, 2), -50.0)
    logits[0, 2, 0, 1] = 50
    labels = torch.ones(1, 12, dtype=torch.long)
    labels[0, 1 * 3 + 2] = 0
    assert qrpn.loss(QRPNOutputs([logits], [labels], [torch.ones(1, 12)], 12))['loss_qrpn'] < 1e-6


def test_only_the_querys_person_is_marked(make_batch):
    boxes = [[10, 8, 40, 88], [60, 20, 90, 92]]
    samples = make_batch([(boxes, [3, -1]), (boxes, [0, 3]), ([], [])])['data_samples']
    marked = mark_queries(samples, torch.tensor([3, 5, 0]))
    assert [sample.gt_instances.labels.tolist() for sample in marked] == [[0, 1], [1, 1], []]
    assert torch.equal(marked[0].gt_instances.bboxes, samples[0].gt_instances.bboxes)
    assert samples[0].gt_instances.labels.tolist() == [0, 0]
    assert marked[1].img_shape == (96, 128)
