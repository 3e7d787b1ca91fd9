"""ID feature regression: by hand, against NumPy loops, and who gets a gradient."""

import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS

from mmps_kd.errors import UserError
from mmps_kd.models.losses import IDFeatureLoss

DISTANCES = ['l2', 'cosine']


def pairs(n=6, dim=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(2, n, dim, generator=generator), dim=2).unbind()


def slow_loss(loss, embeddings, targets):
    total = 0.0
    for x, v in zip(embeddings.tolist(), targets.tolist(), strict=True):
        if loss.distance == 'l2':
            total += sum((a - b) ** 2 for a, b in zip(x, v, strict=True))
        else:
            total += 1 - sum(a * b for a, b in zip(x, v, strict=True))
    return loss.loss_weight * total / len(embeddings)


@pytest.mark.parametrize(('distance', 'expected'), [('l2', (2 + 4 + 0.8) / 3), ('cosine', (1 + 2 + 0.4) / 3)])
def test_value_by_hand(distance, expected):
    embeddings = torch.tensor([[1.0, 0], [1, 0], [0, 1]])
    targets = torch.tensor([[0.0, 1], [-1, 0], [0.8, 0.6]])
    value = IDFeatureLoss(distance)(embeddings, targets)
    assert value.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('distance', DISTANCES)
@pytest.mark.parametrize('n', [1, 2, 9])
def test_equals_the_loops(distance, n):
    loss = IDFeatureLoss(distance, loss_weight=0.3)
    assert loss(*pairs(n)).item() == pytest.approx(slow_loss(loss, *pairs(n)), rel=1e-5)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize('distance', DISTANCES)
def test_fp32_under_autocast(dtype, distance):
    loss = IDFeatureLoss(distance)
    inputs = [x.to(dtype) for x in pairs()]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = loss(*inputs)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(slow_loss(loss, *inputs), rel=1e-5)


@pytest.mark.parametrize('distance', DISTANCES)
def test_gradient_reaches_the_student_only(distance):
    embeddings, targets = (x.clone().requires_grad_() for x in pairs())
    IDFeatureLoss(distance)(embeddings, targets).backward()
    expected = 2 * (embeddings - targets) if distance == 'l2' else -targets
    assert torch.allclose(embeddings.grad, expected / 6)
    assert targets.grad is None


def test_zero_at_the_targets():
    _, targets = pairs()
    assert IDFeatureLoss('l2')(targets, targets).item() == 0
    assert IDFeatureLoss('cosine')(targets, targets).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize('distance', DISTANCES)
def test_nobody(distance):
    embeddings = torch.zeros(0, 8, requires_grad=True)
    value = IDFeatureLoss(distance)(embeddings, torch.zeros(0, 8))
    value.backward()
    assert value.item() == 0
    assert embeddings.grad.shape == (0, 8)


def test_unknown_distance_fails_when_built():
    with pytest.raises(UserError, match="distance='l3' does not exist: choose one of l2, cosine"):
        MODELS.build(dict(type='IDFeatureLoss', distance='l3'))


def test_prints_on_one_line():
    assert repr(IDFeatureLoss('cosine')) == 'IDFeatureLoss(cosine)'
