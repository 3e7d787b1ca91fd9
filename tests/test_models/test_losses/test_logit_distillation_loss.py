"""Logit distillation: by hand, against NumPy loops, and who gets a gradient."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS

from mmps_kd.errors import UserError
from mmps_kd.models.losses import LogitDistillationLoss

MODES = ['ce', 'kl']


def logits(n=7, k=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, n, k, generator=generator).mul(3).unbind()


def slow_row(loss, student, teacher):
    """One row in float64, class by class."""
    if len(student) == 1:
        student, teacher = [student[0], 0.0], [teacher[0], 0.0]
    s, t = np.exp(np.array(student) / loss.temperature), np.exp(np.array(teacher) / loss.temperature)
    s, t = s / s.sum(), t / t.sum()
    total = 0.0
    for c in range(len(s)):
        if loss.mode == 'kl':
            total += t[c] * math.log(t[c] / s[c])
        else:
            total -= (loss.background_weight if c == len(s) - 1 else 1) * t[c] * math.log(s[c])
    return loss.temperature**2 * total


def slow_loss(loss, student, teacher, weight=None, avg_factor=None):
    rows = [slow_row(loss, s, t) for s, t in zip(student.tolist(), teacher.tolist(), strict=True)]
    weight = [1.0] * len(rows) if weight is None else weight.tolist()
    avg_factor = len(rows) if avg_factor is None else avg_factor
    return loss.loss_weight * sum(w * row for w, row in zip(weight, rows, strict=True)) / max(avg_factor, 1)


def log(*probabilities):
    return torch.tensor([probabilities]).log()


def test_cross_entropy_by_hand():
    # Person, background: 1 * 0.25 * log 2 + 1.5 * 0.75 * log 2.
    value = LogitDistillationLoss()(log(0.5, 0.5), log(0.25, 0.75))
    assert value.item() == pytest.approx((0.25 + 1.5 * 0.75) * math.log(2), rel=1e-6)


def test_divergence_by_hand():
    value = LogitDistillationLoss(mode='kl')(log(0.5, 0.5), log(0.25, 0.75))
    assert value.item() == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5), rel=1e-6)


def test_temperature_by_hand():
    # T = 2 takes the square root of the probabilities' ratio: 9 becomes 3, and the loss is times 4.
    value = LogitDistillationLoss(temperature=2, mode='kl')(log(0.5, 0.5), log(0.9, 0.1))
    assert value.item() == pytest.approx(4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)), rel=1e-5)


def test_one_logit_is_object_against_background_by_hand():
    # Objectness 0.5 against 0.75; the background has the larger weight.
    value = LogitDistillationLoss()(torch.zeros(1, 1), torch.tensor([[math.log(3.0)]]))
    assert value.item() == pytest.approx((0.75 + 1.5 * 0.25) * math.log(2), rel=1e-6)


@pytest.mark.parametrize('temperature', [1.0, 2.5])
def test_one_logit_is_the_sigmoid(temperature):
    student, teacher = logits(k=1)
    loss = LogitDistillationLoss(temperature, background_weight=1.0)
    reference = F.binary_cross_entropy_with_logits(student / temperature, (teacher / temperature).sigmoid())
    assert loss(student, teacher).item() == pytest.approx(temperature**2 * reference.item(), rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    mode=st.sampled_from(MODES),
    n=st.integers(1, 9),
    k=st.integers(1, 4),
    temperature=st.sampled_from([0.5, 1.0, 4.0]),
    background_weight=st.sampled_from([1.0, 1.5, 3.0]),
    weighted=st.booleans(),
    avg_factor=st.sampled_from([None, 0, 0.5, 1, 2.5, 40]),
    seed=st.integers(0, 999),
)
def test_equals_the_loops(mode, n, k, temperature, background_weight, weighted, avg_factor, seed):
    loss = LogitDistillationLoss(temperature, mode, background_weight, loss_weight=0.3)
    student, teacher = logits(n, k, seed)
    weight = torch.rand(n, generator=torch.Generator().manual_seed(seed)) if weighted else None
    expected = slow_loss(loss, student, teacher, weight, avg_factor)
    assert loss(student, teacher, weight, avg_factor).item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    if avg_factor is not None:
        as_tensor = loss(student, teacher, weight, torch.tensor(avg_factor))
        assert as_tensor.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('k', [1, 2])
def test_fp32_under_autocast(dtype, mode, k):
    loss = LogitDistillationLoss(temperature=2.0, mode=mode)
    student, teacher = (x.to(dtype) for x in logits(k=k))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = loss(student, teacher)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(slow_loss(loss, student, teacher), rel=1e-5)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('k', [1, 2])
def test_large_half_precision_logits_stay_finite(mode, k):
    student = torch.full((1, k), -6e4, dtype=torch.float16)
    student[0, -1] = 6e4
    student.requires_grad_()
    value = LogitDistillationLoss(mode=mode)(student, -student)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('k', [1, 2])
def test_gradient_reaches_the_student_only(mode, k):
    student, teacher = (x.clone().requires_grad_() for x in logits(k=k))
    LogitDistillationLoss(mode=mode)(student, teacher).backward()
    assert (student.grad.abs() > 0).all()
    assert teacher.grad is None


@pytest.mark.parametrize('temperature', [1.0, 3.0])
def test_gradient_is_the_difference_of_probabilities(temperature):
    student, teacher = logits()
    student = student.clone().requires_grad_()
    LogitDistillationLoss(temperature, mode='kl')(student, teacher, avg_factor=1).backward()
    difference = (student / temperature).softmax(1) - (teacher / temperature).softmax(1)
    assert torch.allclose(student.grad, temperature * difference, atol=1e-5)


@pytest.mark.parametrize('k', [1, 2])
@pytest.mark.parametrize('temperature', [1.0, 3.0])
def test_divergence_is_zero_for_equal_logits(k, temperature):
    student = logits(k=k)[0].clone().requires_grad_()
    value = LogitDistillationLoss(temperature, mode='kl')(student, student.detach())
    value.backward()
    assert value.item() == 0
    assert torch.allclose(student.grad, torch.zeros_like(student), atol=1e-6)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('k', [1, 2])
@pytest.mark.parametrize('avg_factor', [None, 0, torch.tensor(0.0)])
def test_no_rows(mode, k, avg_factor):
    student = torch.zeros(0, k, requires_grad=True)
    value = LogitDistillationLoss(mode=mode)(student, torch.zeros(0, k), torch.zeros(0), avg_factor)
    value.backward()
    assert value.item() == 0
    assert student.grad.shape == (0, k)


def test_rows_of_weight_zero_get_no_gradient():
    student, teacher = logits(n=2)
    student = student.clone().requires_grad_()
    LogitDistillationLoss()(student, teacher, torch.tensor([0.0, 1.0])).backward()
    assert not student.grad[0].any()
    assert student.grad[1].all()


def test_unknown_mode_fails_when_built():
    with pytest.raises(UserError, match="mode='mse' does not exist: choose one of ce, kl"):
        MODELS.build(dict(type='LogitDistillationLoss', mode='mse'))


def test_prints_on_one_line():
    assert repr(LogitDistillationLoss()) == 'LogitDistillationLoss(ce, temperature=1.0, background_weight=1.5)'
    assert repr(LogitDistillationLoss(2, 'kl')) == 'LogitDistillationLoss(kl, temperature=2)'
