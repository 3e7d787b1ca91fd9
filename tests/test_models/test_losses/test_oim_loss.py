"""OIM loss: hand-computed values, the sequential definition, and what goes wrong elsewhere."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmps_kd.errors import UserError
from mmps_kd.models.losses import OIMLoss


def unit(*rows):
    return F.normalize(torch.tensor(rows, dtype=torch.float32), dim=1)


def random_unit(generator, n, dim):
    return F.normalize(torch.randn(n, dim, generator=generator), dim=1)


def filled(num_identities=3, feat_channels=4, queue_size=5, seed=0, **kwargs):
    loss = OIMLoss(num_identities, feat_channels, queue_size, **kwargs)
    generator = torch.Generator().manual_seed(seed)
    loss.lut.copy_(random_unit(generator, num_identities, feat_channels))
    loss.queue.copy_(random_unit(generator, queue_size, feat_channels))
    return loss


def sequential_update(lut, queue, head, embeddings, pids, momentum):
    """The definition: one embedding after another, in batch order."""
    lut, queue = lut.clone(), queue.clone()
    for x, pid in zip(embeddings, pids.tolist(), strict=True):
        if pid >= 0:
            row = momentum * lut[pid] + (1 - momentum) * x
            lut[pid] = row / row.norm()
        else:
            queue[head] = x
            head = (head + 1) % len(queue)
    return lut, queue, head


def test_value_by_hand():
    loss = OIMLoss(num_identities=2, feat_channels=2, queue_size=1, temperature=0.5)
    loss.lut.copy_(unit([1, 0], [0, 1]))
    loss.queue.copy_(unit([-1, 0]))
    # Logits of x = (1, 0): 2, 0 and -2; of x = (0, 1): 0, 2, 0. The unlabelled one costs nothing.
    first = -math.log(math.exp(2) / (math.exp(2) + 1 + math.exp(-2)))
    second = -math.log(math.exp(2) / (1 + math.exp(2) + 1))
    value = loss(unit([1, 0], [0, 1], [1, 1]), torch.tensor([0, 1, -1]))
    assert value.item() == pytest.approx((first + second) / 2, rel=1e-6)


def test_update_by_hand():
    loss = OIMLoss(num_identities=2, feat_channels=2, queue_size=2, momentum=0.5)
    loss.lut.copy_(unit([1, 0], [0, 1]))
    loss(unit([0, 1], [1, 1]), torch.tensor([0, -1]))
    assert torch.allclose(loss.lut, unit([1, 1], [0, 1]))
    assert torch.allclose(loss.queue, torch.stack([unit([1, 1])[0], torch.zeros(2)]))
    assert loss.queue_head == 1


@settings(max_examples=60, deadline=None)
@given(
    pids=st.lists(st.integers(-1, 2), max_size=24),
    momentum=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    seed=st.integers(0, 1000),
)
def test_update_equals_the_sequential_definition(pids, momentum, seed):
    loss = filled(momentum=momentum, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    for _ in range(2):
        embeddings = random_unit(generator, len(pids), 4)
        batch = torch.tensor(pids, dtype=torch.long)
        lut, queue, head = sequential_update(
            loss.lut, loss.queue, int(loss.queue_head), embeddings, batch, loss.momentum
        )
        loss.update(embeddings, batch)
        assert torch.allclose(loss.lut, lut, atol=1e-6)
        assert torch.equal(loss.queue, queue)
        assert loss.queue_head == head


def test_gradient_is_that_of_the_table_before_the_update():
    loss = filled()
    rows = torch.cat([loss.lut, loss.queue]).clone()
    x = unit([1, 2, 3, 4], [0, 1, 0, 1], [1, 0, 0, 0]).requires_grad_()
    pids = torch.tensor([2, -1, 0])
    loss(x, pids).backward()
    grad, x.grad = x.grad, None
    F.cross_entropy((x[[0, 2]] @ rows.t()) * 30, pids[[0, 2]]).backward()
    assert torch.allclose(grad, x.grad, atol=1e-5)
    assert torch.equal(grad[1], torch.zeros(4))


@pytest.mark.parametrize('mask_empty', [False, True])
def test_value_and_gradient_equal_autograd_of_the_definition(mask_empty):
    loss = filled(mask_empty=mask_empty, loss_weight=2.0)
    loss.lut[1], loss.queue[3] = 0, 0
    rows, empty = torch.cat([loss.lut, loss.queue]).double(), torch.zeros(4, 8, dtype=torch.bool)
    if mask_empty:
        empty[:, [1, 6]] = True
        empty[3, 1] = False  # the target of the fourth embedding
    x = random_unit(torch.Generator().manual_seed(1), 5, 4).requires_grad_()
    pids = torch.tensor([2, 0, 2, 1, -1])
    expected_x = x.detach().double().requires_grad_()
    logits = (expected_x[:4] @ rows.t() * 30).masked_fill(empty, float('-inf'))
    expected = 2 * F.cross_entropy(logits, pids[:4])
    expected.backward()

    value = loss(x, pids)
    (3 * value).backward()

    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.allclose(x.grad.double(), 3 * expected_x.grad, atol=1e-5)


@pytest.mark.parametrize('pids', [[], [-1, -1]])
def test_without_a_labelled_person_loss_is_zero_and_gradient_finite(pids):
    loss = filled()
    x = F.normalize(torch.ones(len(pids), 4), dim=1).requires_grad_()
    value = loss(x, torch.tensor(pids, dtype=torch.long))
    value.backward()
    assert value.item() == 0
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_identity_zero_is_labelled():
    loss = filled()
    assert loss(unit([1, 0, 0, 0]), torch.tensor([0])).item() > 0


def test_zero_vectors_make_no_nan():
    loss = OIMLoss(num_identities=2, feat_channels=4, queue_size=0)
    value = loss(torch.zeros(2, 4), torch.tensor([0, 0]))
    assert value.item() == pytest.approx(math.log(2))
    assert torch.equal(loss.lut, torch.zeros(2, 4))


def test_more_unlabelled_than_the_queue_holds_leaves_the_newest():
    loss = OIMLoss(num_identities=1, feat_channels=1, queue_size=3)
    loss.update(torch.arange(5.0)[:, None], torch.full((5,), -1))
    # Written to slots 0, 1, 2, 0, 1.
    assert loss.queue.flatten().tolist() == [3, 4, 2]
    assert loss.queue_head == 2


def test_empty_rows_count_unless_masked():
    x, pids = unit([1, 0]), torch.tensor([0])
    plain = OIMLoss(3, 2, queue_size=2, temperature=1.0)
    masked = OIMLoss(3, 2, queue_size=2, temperature=1.0, mask_empty=True)
    for loss in (plain, masked):
        loss.lut[0] = x[0]
    # Logit 1 against four zeros, or against nothing.
    assert plain(x, pids).item() == pytest.approx(-math.log(math.e / (math.e + 4)))
    assert masked(x, pids).item() == 0


def test_masked_target_row_that_is_still_empty_stays_finite():
    loss = OIMLoss(2, 2, queue_size=1, mask_empty=True)
    assert loss(unit([1, 0]), torch.tensor([1])).item() == 0


def test_fp32_under_autocast():
    loss, reference = filled(), filled()
    x = unit([1, 2, 3, 4], [4, 3, 2, 1]).bfloat16()
    pids = torch.tensor([0, -1])
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = loss(x, pids)
    assert value.dtype == loss.lut.dtype == loss.queue.dtype == torch.float32
    assert value.item() == pytest.approx(reference(x.float(), pids).item(), rel=1e-6)
    assert torch.equal(loss.lut, reference.lut)


def test_nothing_is_written_in_eval_mode():
    loss = filled().eval()
    before = {k: v.clone() for k, v in loss.state_dict().items()}
    loss(unit([1, 0, 0, 0], [0, 1, 0, 0]), torch.tensor([0, -1]))
    assert all(torch.equal(v, before[k]) for k, v in loss.state_dict().items())


def test_state_travels_in_the_checkpoint():
    loss = filled()
    loss.update(unit([1, 0, 0, 0], [0, 1, 0, 0]), torch.tensor([-1, -1]))
    assert set(loss.state_dict()) == {'lut', 'queue', 'queue_head'}
    other = OIMLoss(3, 4, 5)
    other.load_state_dict(loss.state_dict())
    assert other.queue_head == 2
    assert torch.equal(other.queue, loss.queue)
    assert not list(loss.parameters())


def test_checkpoint_of_another_embedding_size_is_refused():
    with pytest.raises(UserError, match='size 4, the config asks for 8.*feat_channels'):
        OIMLoss(3, 8, 5).load_state_dict(filled().state_dict())


def test_table_of_another_data_set_starts_afresh():
    loss = OIMLoss(7, 4, 2)
    with pytest.warns(UserWarning, match='3 rows, the config 7'):
        loss.load_state_dict(filled().state_dict())
    assert torch.equal(loss.lut, torch.zeros(7, 4))
    assert torch.equal(loss.queue, torch.zeros(2, 4))


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_embeddings_that_are_not_finite_are_not_written(value):
    loss = filled()
    expected = sequential_update(loss.lut, loss.queue, 0, unit([1, 0, 0, 0], [0, 1, 0, 0]), torch.tensor([1, -1]), 0.5)
    embeddings = unit([0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0])
    embeddings[0, 0] = embeddings[2, 3] = value
    assert not loss(embeddings, torch.tensor([0, 1, -1, -1])).isfinite()
    for ours, theirs in zip((loss.lut, loss.queue, loss.queue_head), expected, strict=True):
        torch.testing.assert_close(ours, torch.as_tensor(theirs))
