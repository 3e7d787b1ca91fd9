"""The learned similarity by hand, and what it must not depend on."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS

from mmps_kd.models import QSimNet


def unit_rows(count, seed, dim=6):
    return F.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.fixture
def net():
    return trained_net()


def trained_net():
    torch.manual_seed(0)
    net = QSimNet(6)
    torch.nn.init.normal_(net.bn.weight)
    net.bn.running_mean.uniform_()
    net.bn.running_var.uniform_(0.5, 2)
    return net


def test_by_hand():
    net = QSimNet(2).eval()
    net.load_state_dict(
        {
            'bn.weight': torch.tensor([2.0, 1]),
            'bn.bias': torch.tensor([0.0, 1]),
            'bn.running_mean': torch.tensor([1.0, 0]),
            'bn.running_var': torch.tensor([4.0, 1]),
            'bn.num_batches_tracked': torch.tensor(0),
            'fc.weight': torch.tensor([[1.0, 0], [0, 2]]),
            'fc.bias': torch.tensor([0.0, -1]),
        }
    )
    # Squared differences 4 and 1; normalised 2 (4 - 1) / 2 = 3 and 1 + 1 = 2; logits 3 and 2 * 2 - 1 = 3.
    logits = net(torch.tensor([[1.0, 2]]), torch.tensor([[-1.0, 1]]))
    assert logits.tolist() == [pytest.approx([3, 3], abs=1e-4)]
    assert net.similarity(torch.tensor([[1.0, 2]]), torch.tensor([[-1.0, 1]])).item() == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize('training', [True, False])
@settings(max_examples=20)
@given(order=st.permutations(range(7)))
def test_the_order_of_a_batch_only_orders_the_answers(training, order):
    net, x, q = trained_net().train(training), unit_rows(7, 1), unit_rows(7, 2)
    assert torch.allclose(net(x[order], q[order]), net(x, q)[order], atol=1e-5)


@settings(max_examples=20)
@given(rows=st.lists(st.integers(0, 6), min_size=1, max_size=9))
def test_in_testing_the_company_does_not_matter(rows):
    net, x, q = trained_net().eval(), unit_rows(7, 1), unit_rows(7, 2)
    assert torch.allclose(net(x[rows], q[rows]), net(x, q)[rows], atol=1e-5)


def test_who_is_compared_with_whom_does_not_matter(net):
    x, q = unit_rows(7, 1), unit_rows(7, 2)
    assert torch.equal(net.eval().similarity(x, q), net.similarity(q, x))
    assert ((net.similarity(x, q) > 0) & (net.similarity(x, q) < 1)).all()


def test_similarities_near_one_stay_apart(net):
    net.eval()
    torch.nn.init.constant_(net.fc.bias[1], 0)
    with torch.no_grad():
        net.fc.bias[1] += 20
    x = unit_rows(7, 1)
    assert len(net.similarity(x, unit_rows(7, 2)).unique()) == 7


def test_training_sets_out_from_the_distance():
    net = MODELS.build(dict(type='QSimNet', feat_channels=6))
    net.init_weights()
    x, q = unit_rows(9, 1), unit_rows(1, 2).expand(9, -1)
    by_distance = (x - q).norm(dim=1).argsort()
    assert net.eval().similarity(x, q).argsort(descending=True).tolist() == by_distance.tolist()


def test_loss_by_hand():
    net = QSimNet(6, loss_weight=3.0)
    logits = torch.tensor([[0.0, 2.0], [1.0, 0.0]])
    loss = net.loss(logits, torch.tensor([True, False]))['loss_qsim']
    assert loss.item() == pytest.approx(3 * (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))) / 2)


@pytest.mark.parametrize('count', [0, 1])
def test_few_rows_give_a_finite_loss_and_gradient(net, count):
    x = unit_rows(count, 1).requires_grad_()
    loss = net.train().loss(net(x, unit_rows(count, 2)), torch.ones(count, dtype=torch.bool))['loss_qsim']
    loss.backward()
    assert loss == 0 if count == 0 else loss > 0
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    assert x.grad.shape == x.shape


def test_half_precision_in_fp32_inside(net):
    x, q = unit_rows(7, 1), unit_rows(7, 2)
    net.eval()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        logits = net(x, q)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, net(x, q))
