"""Teacher-bounded regression: by hand, against NumPy loops, and who gets a gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS

from mmps_kd.models.losses import BoundedRegressionLoss


def triple(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, n, 4, generator=generator).unbind()


def slow_loss(loss, student, teacher, target, avg_factor=None):
    total = 0.0
    for s, t, y in zip(student.tolist(), teacher.tolist(), target.tolist(), strict=True):
        student_error = sum((a - b) ** 2 for a, b in zip(s, y, strict=True))
        teacher_error = sum((a - b) ** 2 for a, b in zip(t, y, strict=True))
        if student_error + loss.margin > teacher_error:
            total += student_error
    return loss.loss_weight * total / max(len(student) if avg_factor is None else avg_factor, 1)


# Errors of the student 4, 1 and 9, of the teacher 1, 4 and 9: worse, better, and a tie.
STUDENT = torch.tensor([[2.0, 0, 0, 0], [0, 1, 0, 0], [2, 2, 1, 0]])
TEACHER = torch.tensor([[0.0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 3]])
TARGET = torch.zeros(3, 4)


@pytest.mark.parametrize(
    ('margin', 'total'),
    [
        pytest.param(0.0, 4, id='a tie costs nothing'),
        pytest.param(0.5, 4 + 9, id='a tie costs'),
        pytest.param(3.0, 4 + 9, id='better by the margin costs nothing'),
        pytest.param(3.5, 4 + 1 + 9, id='better by less than the margin costs'),
    ],
)
def test_value_by_hand(margin, total):
    loss = BoundedRegressionLoss(margin, loss_weight=1.0)
    assert loss(STUDENT, TEACHER, TARGET).item() == pytest.approx(total / 3, rel=1e-6)
    assert loss(STUDENT, TEACHER, TARGET, avg_factor=8).item() == total / 8


def test_weight_is_one_half_by_default():
    assert BoundedRegressionLoss()(STUDENT, TEACHER, TARGET, avg_factor=1).item() == 2


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 12),
    margin=st.sampled_from([0.0, 0.01, 2.0]),
    avg_factor=st.sampled_from([None, 0, 0.5, 1, 2.5, 40]),
    seed=st.integers(0, 999),
)
def test_equals_the_loops(n, margin, avg_factor, seed):
    loss = BoundedRegressionLoss(margin, loss_weight=0.3)
    expected = slow_loss(loss, *triple(n, seed), avg_factor)
    assert loss(*triple(n, seed), avg_factor).item() == pytest.approx(expected, rel=1e-5)
    if avg_factor is not None:
        assert loss(*triple(n, seed), torch.tensor(avg_factor)).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
def test_fp32_under_autocast(dtype):
    loss = BoundedRegressionLoss(margin=0.1)
    inputs = [x.to(dtype) for x in triple(20)]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = loss(*inputs)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(slow_loss(loss, *inputs), rel=1e-5)


def test_gradient_reaches_the_losing_rows_of_the_student_only():
    student, teacher, target = (x.clone().requires_grad_() for x in (STUDENT, TEACHER, TARGET))
    BoundedRegressionLoss(loss_weight=1.0)(student, teacher, target, avg_factor=1).backward()
    assert torch.equal(student.grad, 2 * STUDENT * torch.tensor([[1.0], [0.0], [0.0]]))
    assert teacher.grad is None
    assert target.grad is None


def test_zero_for_the_teachers_own_boxes():
    _, teacher, target = triple(5)
    student = teacher.clone().requires_grad_()
    value = BoundedRegressionLoss()(student, teacher, target)
    value.backward()
    assert value.item() == 0
    assert not student.grad.any()


@pytest.mark.parametrize('avg_factor', [None, 0, torch.tensor(0.0)])
def test_no_rows(avg_factor):
    student = torch.zeros(0, 4, requires_grad=True)
    value = BoundedRegressionLoss()(student, torch.zeros(0, 4), torch.zeros(0, 4), avg_factor)
    value.backward()
    assert value.item() == 0
    assert student.grad.shape == (0, 4)


def test_built_by_name_and_printed_on_one_line():
    loss = MODELS.build(dict(type='BoundedRegressionLoss', margin=0.01))
    assert repr(loss) == 'BoundedRegressionLoss(margin=0.01)'
