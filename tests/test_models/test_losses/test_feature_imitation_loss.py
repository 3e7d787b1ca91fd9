"""Feature imitation: by hand, against NumPy loops, and who gets a gradient."""

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS

from mmps_kd.errors import UserError
from mmps_kd.models.losses import FeatureImitationLoss

MODES = ['hint', 'fine_grained']


def maps(size=(2, 4, 6), seed=0):
    generator = torch.Generator().manual_seed(seed)
    batch, height, width = size
    student, teacher = torch.randn(2, batch, 5, height, width, generator=generator)
    return student, teacher, torch.rand(size, generator=generator) < 0.3


def slow_loss(loss, student, teacher, mask):
    student, teacher = student.double().numpy(), teacher.double().numpy()
    total = cells = 0
    for b, h, w in np.ndindex(mask.shape):
        if mask[b, h, w]:
            cells += 1
            for c in range(teacher.shape[1]):
                difference = student[b, c, h, w] - teacher[b, c, h, w]
                total += difference**2 if loss.distance == 'l2' else abs(difference)
    return loss.loss_weight * total / (2 * cells if loss.mode == 'fine_grained' else teacher.shape[1] * cells)


@pytest.mark.parametrize(
    ('mode', 'distance', 'expected'),
    [
        # Differences 1, 2, 3, 4 in two channels of two cells.
        ('hint', 'l2', 30 / 4),
        ('hint', 'l1', 10 / 4),
        ('fine_grained', 'l2', 30 / (2 * 2)),
        ('fine_grained', 'l1', 10 / (2 * 2)),
    ],
)
def test_value_by_hand(mode, distance, expected):
    loss = FeatureImitationLoss(mode, distance)
    student = torch.tensor([1.0, -2, -3, 4]).reshape(1, 2, 1, 2)
    assert loss(student, torch.zeros(1, 2, 1, 2), torch.ones(1, 1, 2, dtype=torch.bool)).item() == expected


@pytest.mark.parametrize(('mode', 'expected'), [('hint', 75 / (3 * 4)), ('fine_grained', 75 / (2 * 4))])
def test_normaliser_is_the_number_of_masked_cells_in_the_batch(mode, expected):
    # 4 masked cells, 3 in the first image and 1 in the second; 3 channels, all differences 2.5 there and 9 elsewhere.
    mask = torch.zeros(2, 2, 3, dtype=torch.bool)
    mask[0, 0] = mask[1, 1, 2] = True
    student = torch.where(mask, 2.5, 9.0)[:, None].expand(2, 3, 2, 3)
    loss = FeatureImitationLoss(mode)
    assert loss(student, torch.zeros(2, 3, 2, 3), mask).item() == expected


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('distance', ['l2', 'l1'])
def test_equals_the_loops(mode, distance):
    loss = FeatureImitationLoss(mode, distance, loss_weight=0.7)
    student, teacher, mask = maps()
    everywhere = torch.ones_like(mask)
    assert loss(student, teacher, mask).item() == pytest.approx(slow_loss(loss, student, teacher, mask), rel=1e-5)
    expected = pytest.approx(slow_loss(loss, student, teacher, everywhere), rel=1e-5)
    assert loss(student, teacher, everywhere).item() == expected
    if mode == 'hint':
        assert loss(student, teacher).item() == expected


def test_near_people_needs_a_mask():
    with pytest.raises(UserError, match="mode='fine_grained' compares near people alone: add mask='fine_grained'"):
        FeatureImitationLoss('fine_grained')(*maps()[:2])


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize('mode', MODES)
def test_fp32_under_autocast(dtype, mode):
    loss = FeatureImitationLoss(mode)
    student, teacher, mask = (x.to(dtype) if x.is_floating_point() else x for x in maps())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = loss(student, teacher, mask)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(slow_loss(loss, student, teacher, mask), rel=1e-5)


@pytest.mark.parametrize('mode', MODES)
def test_gradients_reach_the_student_only(mode):
    loss = FeatureImitationLoss(mode)
    student, teacher, mask = maps()
    student.requires_grad_(), teacher.requires_grad_()
    loss(student, teacher, mask).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('distance', ['l2', 'l1'])
def test_zero_for_the_teachers_own_features(mode, distance):
    loss = FeatureImitationLoss(mode, distance)
    _, teacher, mask = maps()
    student = teacher.clone().requires_grad_()
    value = loss(student, teacher, mask)
    value.backward()
    assert value.item() == 0
    assert not student.grad.any()
    assert list(loss.parameters()) == []


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('empty', ['mask', 'batch'])
def test_nothing_to_compare(mode, empty):
    loss = FeatureImitationLoss(mode)
    student, teacher, mask = maps(size=(0, 4, 6) if empty == 'batch' else (2, 4, 6))
    student.requires_grad_()
    value = loss(student, teacher, torch.zeros_like(mask))
    value.backward()
    assert value.item() == 0
    assert not student.grad.any()


def test_warm_up_counts_training_iterations_and_resumes():
    loss = FeatureImitationLoss('fine_grained', warmup_iters=3)
    student, teacher, mask = maps()
    assert [loss(student, teacher, mask).item() for _ in range(2)] == [0, 0]
    assert loss.eval()(student, teacher, mask).item() == 0

    resumed = FeatureImitationLoss('fine_grained', warmup_iters=3)
    resumed.load_state_dict(loss.state_dict())
    assert resumed(student, teacher, mask).item() == 0
    expected = slow_loss(resumed, student, teacher, mask)
    assert resumed(student, teacher, mask).item() == pytest.approx(expected, rel=1e-5)


def test_gradients_are_zero_but_there_while_warming_up():
    student, teacher, _ = maps()
    FeatureImitationLoss(warmup_iters=1)(student.requires_grad_(), teacher).backward()
    assert not student.grad.any()


def test_maps_of_different_size():
    with pytest.raises(UserError, match=r'student \(1, 3, 4, 6\) and teacher \(1, 3, 2, 3\) differ in height or width'):
        FeatureImitationLoss()(torch.zeros(1, 3, 4, 6), torch.zeros(1, 3, 2, 3))


@pytest.mark.parametrize('key', ['mode', 'distance'])
def test_unknown_choice_fails_when_built(key):
    with pytest.raises(UserError, match=f"{key}='l3' does not exist: choose one of "):
        MODELS.build(dict(type='FeatureImitationLoss', **{key: 'l3'}))


def test_prints_on_one_line():
    assert repr(FeatureImitationLoss()) == 'FeatureImitationLoss(hint, l2)'
