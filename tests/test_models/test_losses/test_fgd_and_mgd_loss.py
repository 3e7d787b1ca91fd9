"""Losses of feature maps with layers of their own: hand-computed values, NumPy, gradients, and a training step."""

import copy

import numpy as np
import pytest
import torch

from mmps_kd.models import FGDLoss, MGDLoss

PEOPLE = [([[10, 8, 40, 88], [60, 20, 90, 92]], [3, -1]), ([], [])]


def maps(size=(2, 3, 4, 5)):
    return torch.randn(2, *size, generator=torch.Generator().manual_seed(0))


def masks(padded=1):
    """One box of 2x2 cells in the first of two images of 4x5 cells; the last columns are padding."""
    mask = torch.zeros(2, 2, 4, 5)
    mask[0, 0, 1:3, :2] = 1 / 4
    mask[:, 1, :, : 5 - padded] = 1
    mask[:, 1] *= mask[:, 0] == 0
    mask[:, 1] /= mask[:, 1].sum(dim=(1, 2), keepdim=True)
    return mask


def softmax(x):
    weights = np.exp(x - x.max())
    return weights / weights.sum()


def slow_fgd(loss, student, teacher, mask):
    total = 0
    for own, taught, (people, others) in zip(*(x.double().numpy() for x in (student, teacher, mask)), strict=True):
        cells = np.argwhere(people + others > 0)
        own, taught = (np.stack([x[:, h, w] for h, w in cells], axis=1) for x in (own, taught))
        attention = []
        for x in (own, taught):
            by_cell = len(cells) * softmax(np.abs(x).mean(axis=0) / loss.temperature)
            attention.append((by_cell, len(x) * softmax(np.abs(x).mean(axis=1) / loss.temperature)))
        (own_cells, own_channels), (by_cell, by_channel) = attention
        for n, (h, w) in enumerate(cells):
            weight = loss.alpha * people[h, w] + loss.beta * others[h, w]
            total += weight * by_cell[n] * (by_channel * (taught[:, n] - own[:, n]) ** 2).sum()
        total += loss.gamma * (np.abs(by_cell - own_cells).sum() + np.abs(by_channel - own_channels).sum())
        related = []
        for x, block in ((own, loss.student_context), (taught, loss.teacher_context)):
            weight, bias = (p.detach().double().numpy() for p in block.weight.parameters())
            context = x @ softmax(weight[0, :, 0, 0] @ x + bias)
            w1, b1, scale, shift, w2, b2 = (p.detach().double().numpy() for p in block.transform.parameters())
            hidden = w1 @ context + b1
            hidden = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-5) * scale + shift
            related.append(x + (w2 @ np.maximum(hidden, 0) + b2)[:, None])
        total += loss.global_weight * ((related[0] - related[1]) ** 2).sum()
    return total / len(student)


@pytest.mark.parametrize('part', ['alpha', 'beta', 'gamma', 'global_weight', 'all'])
def test_fgd_against_numpy(part):
    torch.manual_seed(0)
    weights = dict(alpha=2.0, beta=3.0, gamma=0.5, global_weight=0.1)
    loss = FGDLoss(channels=3, **(weights if part == 'all' else dict.fromkeys(weights, 0.0) | {part: 1.0}))
    for block in (loss.student_context, loss.teacher_context):
        torch.nn.init.normal_(block.transform[-1].weight)
    student, teacher = maps()
    expected = slow_fgd(loss, student, teacher, masks())
    assert expected > 0
    assert loss(student, teacher, masks()).item() == pytest.approx(expected, rel=1e-5)


def test_fgd_by_hand():
    # One channel, two cells: one is a person's, one background; even attention, 2 * 1/2 and 1 * 1.
    loss = FGDLoss(channels=2, alpha=3.0, beta=5.0, gamma=0.0, global_weight=0.0)
    teacher = torch.ones(1, 2, 1, 2)
    student = torch.tensor([[0.0, 3], [0, 3]]).reshape(1, 2, 1, 2)
    mask = torch.tensor([[1.0, 0], [0, 1]]).reshape(1, 2, 1, 2)
    assert loss(student, teacher, mask).item() == pytest.approx(3 * 2 * 1 + 5 * 2 * 4)


def test_fgd_is_blind_to_padding():
    loss = FGDLoss(channels=3)
    student, teacher = maps()
    cut = loss(student[..., :4], teacher[..., :4], masks()[..., :4]).item()
    assert loss(student, teacher, masks()).item() == pytest.approx(cut, rel=1e-5)


def test_mgd_generates_the_teachers_map_from_the_rest():
    torch.manual_seed(0)
    student, teacher = maps()
    loss = MGDLoss(channels=3, masked=0.5, loss_weight=2.0)
    expected = loss(student, teacher).item()
    draws = torch.rand(2, 1, 4, 5, generator=torch.Generator().manual_seed(0))
    first, _, second = loss.generation
    generated = second(first(student * (draws >= 0.5)).relu())
    assert expected == pytest.approx(2 * (generated - teacher).square().sum().item() / 2, rel=1e-5)
    assert loss(student, teacher).item() != expected
    nothing = MGDLoss(channels=3, masked=1.0)
    assert nothing(student, teacher).item() == nothing(2 * student, teacher).item()


def test_mgd_draws_from_a_stream_of_its_own_that_is_resumed():
    student, teacher = maps()
    loss = MGDLoss(channels=3)
    state = torch.get_rng_state()
    loss(student, teacher)
    assert torch.equal(torch.get_rng_state(), state)
    saved = copy.deepcopy(loss.state_dict())
    expected = [loss(student, teacher).item() for _ in range(3)]
    resumed = MGDLoss(channels=3)
    resumed.load_state_dict(saved)
    assert [resumed(student, teacher).item() for _ in range(3)] == expected
    assert len(set(expected)) == 3


@pytest.mark.parametrize('kind', ['FGDLoss', 'MGDLoss'])
def test_gradient_reaches_student_and_layers_in_fp32(kind):
    torch.manual_seed(0)
    loss = dict(FGDLoss=FGDLoss(channels=3), MGDLoss=MGDLoss(channels=3))[kind].eval()
    student, teacher = (x.clone().requires_grad_() for x in maps())
    given = (student, teacher, masks())[: 3 if kind == 'FGDLoss' else 2]
    value = loss(*given)
    value.backward()
    assert value.dtype == torch.float32
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None
    assert all(parameter.grad is not None for parameter in loss.parameters())


def test_in_a_training_step_with_an_image_without_people(build_taught, make_batch):
    terms = [
        dict(at='backbone.0', name='fgd', mask='boxes', loss=dict(type='FGDLoss', channels=32)),
        dict(at='backbone.0', name='mgd', loss=dict(type='MGDLoss', channels=32)),
    ]
    model = build_taught(terms)
    losses = model(**model.data_preprocessor(make_batch(PEOPLE), training=True), mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert losses['distill/loss_fgd'] > 0
    assert losses['distill/loss_mgd'] > 0
    assert model.backbone.conv1.weight.grad.isfinite().all()
