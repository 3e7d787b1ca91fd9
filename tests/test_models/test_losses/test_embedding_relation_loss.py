"""Relational distillation of embeddings: hand-computed values, an independent loop, the queue."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmps_kd.models import EmbeddingRelationLoss


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def slow_loss(own, taught, own_queue, taught_queue, temperature):
    """Straight from the definition, row by row."""
    losses = []
    for i in range(len(own)):
        others = [j for j in range(len(own)) if j != i]
        logits = [
            np.array([rows[i] @ other for other in [*rows[others], *queue]]) / temperature
            for rows, queue in ((own, own_queue), (taught, taught_queue))
        ]
        log_s, log_t = (values - np.log(np.exp(values).sum()) for values in logits)
        losses.append((np.exp(log_t) * (log_t - log_s)).sum())
    return np.mean(losses)


def test_by_hand():
    # Row 0 finds rows 1 and 2 equally similar; the teacher finds row 1 three times as likely as row 2 at T = 1.
    own = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    angle = math.log(3)
    taught = torch.tensor([[1.0, 0, 0], [angle / 2, 0, 0], [-angle / 2, 0, 0]])
    loss = EmbeddingRelationLoss(temperature=1.0, feat_channels=3)
    losses = [loss(own, taught, weight=torch.eye(3)[i]).item() * 3 for i in range(3)]
    assert losses[0] == pytest.approx(0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5), abs=1e-6)


def test_against_a_loop_with_a_queue():
    loss = EmbeddingRelationLoss(temperature=0.2, queue_size=6, feat_channels=5, loss_weight=2.0)
    seen = [], []
    for step, count in enumerate([3, 4, 1, 5]):
        own, taught = unit(count, 5, seed=step), unit(count, 5, seed=50 + step)
        value = loss(own, taught)
        queues = [torch.cat(rows)[:6].numpy() if rows else np.zeros((0, 5)) for rows in seen]
        assert value.item() == pytest.approx(2 * slow_loss(own.numpy(), taught.numpy(), *queues, 0.2), rel=1e-5)
        for rows, new in zip(seen, (own, taught), strict=True):
            rows.insert(0, new)


def test_equal_similarities_cost_nothing_whatever_the_directions():
    rows = unit(6, 8)
    rotation, _ = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1)))
    loss = EmbeddingRelationLoss(feat_channels=8, queue_size=4)
    assert loss(rows @ rotation, rows).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize('count', [0, 1])
def test_nobody_to_compare_with(count):
    rows = unit(count, 4).requires_grad_()
    loss = EmbeddingRelationLoss(feat_channels=4)(rows, unit(count, 4, seed=1))
    loss.backward()
    assert loss.item() == 0
    assert rows.grad.isfinite().all()


def test_gradient_reaches_the_student_alone_in_fp32():
    rows, taught = unit(4, 4).requires_grad_(), unit(4, 4, seed=1).requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = EmbeddingRelationLoss(feat_channels=4, queue_size=2)(rows * 1, taught)
    loss.backward()
    assert loss.dtype == torch.float32
    assert rows.grad.abs().sum() > 0
    assert taught.grad is None


def test_a_resumed_run_has_its_queue():
    loss = EmbeddingRelationLoss(feat_channels=4, queue_size=5)
    loss(unit(3, 4), unit(3, 4, seed=1))
    again = EmbeddingRelationLoss(feat_channels=4, queue_size=5)
    again.load_state_dict(loss.state_dict())
    batch = unit(2, 4, seed=2), unit(2, 4, seed=3)
    assert again(*batch).item() == loss(*batch).item()
