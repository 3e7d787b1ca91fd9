"""Whole training steps in half precision, and with gradients added up over several batches."""

import copy

import pytest
import torch
from mmengine.optim import OptimWrapper

PEOPLE = [([[10, 10, 40, 90], [50, 5, 90, 80]], [1, -1]), ([[20, 10, 60, 90]], [3])]
TABLE = 'roi_head.reid_head.loss_oim.lut'
CONV = 'rpn_head.rpn_conv.weight'


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_a_step_under_autocast(build_model, make_batch, dtype):
    losses, models = [], []
    for enabled in (False, True):
        model = build_model().train()
        torch.manual_seed(1)
        data = model.data_preprocessor(make_batch(PEOPLE), training=True)
        with torch.autocast('cpu', dtype=dtype, enabled=enabled):
            total, logged = model.parse_losses(model(**data, mode='loss'))
        total.backward()
        losses.append(logged)
        models.append(model)
    whole, half = losses
    assert half['loss'] != whole['loss']  # it ran in half precision
    for name in whole:
        if 'loss' in name:
            assert half[name].dtype == torch.float32
            assert half[name].item() == pytest.approx(whole[name].item(), rel=0.05, abs=0.01), name
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in models[1].parameters())
    first, second = (model.roi_head.reid_head.loss_oim for model in models)
    for name in ('lut', 'queue'):
        value = getattr(second, name)
        assert value.dtype == second.state_dict()[name].dtype == torch.float32
        torch.testing.assert_close(value, getattr(first, name), rtol=0, atol=0.05)
    assert torch.equal(first.queue_head, second.queue_head)


def test_gradients_are_added_up_and_the_table_follows_each_batch(build_model, make_batch):
    batches = [make_batch(PEOPLE, seed=seed) for seed in range(2)]
    model, reference = build_model().train(), build_model().train()
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), 0.1), accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 2)
    optimizer = torch.optim.SGD(reference.parameters(), 0.1)
    start = copy.deepcopy(model.state_dict())
    for index, batch in enumerate(batches):
        torch.manual_seed(index)
        model.train_step(copy.deepcopy(batch), wrapper)
        torch.manual_seed(index)
        losses = reference(**reference.data_preprocessor(batch, training=True), mode='loss')
        (reference.parse_losses(losses)[0] / 2).backward()
        own = model.state_dict()
        assert torch.equal(own[TABLE], reference.state_dict()[TABLE])
        assert not torch.equal(own[TABLE], start[TABLE])
        assert torch.equal(own[CONV], start[CONV]) == (index == 0)
    optimizer.step()
    assert all(torch.equal(value, reference.state_dict()[name]) for name, value in model.state_dict().items())
