"""PKD, CWD and correlation distillation: hand-computed values, NumPy, gradients, and use at a location."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmps_kd.models import CorrelationLoss, CWDLoss, PKDLoss

PEOPLE = [([[10, 8, 40, 88], [60, 20, 90, 92]], [3, -1]), ([[20, 10, 50, 90]], [0])]


def maps(seed=0, size=(2, 3, 4, 5)):
    return torch.randn(2, *size, generator=torch.Generator().manual_seed(seed))


def slow_pkd(student, teacher):
    total = []
    for channel in range(student.shape[1]):
        rows = [x[:, channel].double().numpy().ravel() for x in (student, teacher)]
        own, taught = ((row - row.mean()) / (row.std(ddof=1) + 1e-6) for row in rows)
        total.append(((own - taught) ** 2).mean() / 2)
    return np.mean(total)


def slow_cwd(student, teacher, temperature):
    total = 0
    for own, taught in zip(student.flatten(0, 1), teacher.flatten(0, 1), strict=True):
        weights = [np.exp(x.double().numpy().ravel() / temperature) for x in (own, taught)]
        p, q = (w / w.sum() for w in weights)
        total += (q * (np.log(q) - np.log(p))).sum()
    return temperature**2 * total / (student.shape[0] * student.shape[1])


def test_pkd_by_hand():
    # One channel of two cells: standardised they are -1, 1 times 1 / sqrt(2); the student has them the other way round.
    student, teacher = torch.tensor([5.0, 3]).reshape(1, 1, 1, 2), torch.tensor([10.0, 20]).reshape(1, 1, 1, 2)
    assert PKDLoss(loss_weight=1.0)(student, teacher).item() == pytest.approx((2 / 2**0.5) ** 2 / 2, rel=1e-5)


def test_pkd_is_blind_to_scale_and_shift():
    student, teacher = maps()
    value = PKDLoss()(student, teacher)
    assert PKDLoss()(3 * student + 7, 0.5 * teacher - 1).item() == pytest.approx(value.item(), rel=1e-4)
    assert value.item() == pytest.approx(6 * slow_pkd(student, teacher), rel=1e-5)
    # 1 minus the correlation of each channel, times (N - 1) / N.
    rows = [x.transpose(0, 1).flatten(1).numpy() for x in (student, teacher)]
    correlations = [np.corrcoef(own, taught)[0, 1] for own, taught in zip(*rows, strict=True)]
    assert value.item() == pytest.approx(6 * (1 - np.mean(correlations)) * 39 / 40, rel=1e-4)


def test_cwd_by_hand():
    # The teacher's channel is 3 : 1 over its two cells, the student's even.
    teacher = torch.tensor([np.log(3.0), 0.0]).reshape(1, 1, 1, 2)
    expected = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
    assert CWDLoss(loss_weight=1.0)(torch.zeros(1, 1, 1, 2), teacher).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('temperature', [1.0, 4.0])
def test_cwd_against_numpy(temperature):
    student, teacher = maps()
    loss = CWDLoss(temperature, loss_weight=1.0)
    assert loss(student, teacher).item() == pytest.approx(slow_cwd(student, teacher, temperature), rel=1e-5)
    assert loss(student + 5, student).item() == pytest.approx(0, abs=1e-6)


def test_correlation():
    own = torch.tensor([[1.0, 0], [0, 1]])
    taught = torch.tensor([[1.0, 0, 0], [0.6, 0.8, 0]])
    # The two pairs of different people differ by 0.6; of four pairs.
    assert CorrelationLoss(loss_weight=2.0)(own, taught).item() == pytest.approx(2 * 2 * 0.36 / 4)
    assert CorrelationLoss()(own, taught, torch.tensor([1.0, 0])).item() == pytest.approx(0.36 / 4)
    rows = F.normalize(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))
    assert CorrelationLoss()(rows @ rotation, rows).item() == pytest.approx(0, abs=1e-6)
    empty = torch.zeros(0, 4, requires_grad=True)
    CorrelationLoss()(empty, torch.zeros(0, 4)).backward()
    assert empty.grad.shape == (0, 4)


@pytest.mark.parametrize('loss', [PKDLoss(), CWDLoss(), CorrelationLoss()], ids=lambda loss: type(loss).__name__)
def test_gradient_reaches_the_student_alone_in_fp32(loss):
    student, teacher = maps() if not isinstance(loss, CorrelationLoss) else F.normalize(maps(size=(4, 3)), dim=2)
    student, teacher = student.clone().requires_grad_(), teacher.clone().requires_grad_()
    value = loss(student, teacher)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert loss(student, teacher).item() == pytest.approx(value.item(), rel=1e-5)
    value.backward()
    assert value.dtype == torch.float32
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize('kind', ['PKDLoss', 'CWDLoss'])
def test_flat_maps_are_finite(kind):
    loss = dict(PKDLoss=PKDLoss, CWDLoss=CWDLoss)[kind]()
    student = torch.ones(1, 3, 4, 5, requires_grad=True)
    value = loss(student, torch.full((1, 3, 4, 5), 2.0))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert student.grad.isfinite().all()


def test_in_a_training_step(build_taught, make_batch):
    terms = [dict(at='backbone.0', name=kind, loss=dict(type=kind)) for kind in ('PKDLoss', 'CWDLoss')]
    model = build_taught(terms)
    losses = model(**model.data_preprocessor(make_batch(PEOPLE), training=True), mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert losses['distill/loss_PKDLoss'] > 0
    assert losses['distill/loss_CWDLoss'] > 0
    assert model.backbone.conv1.weight.grad.isfinite().all()
