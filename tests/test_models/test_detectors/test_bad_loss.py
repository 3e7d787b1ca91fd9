"""A batch whose loss is not finite leaves weights and OIM table as they are."""

import copy
import math

import pytest
import torch
from mmengine.optim import OptimWrapper

from mmps_kd.models.utils.invalid_loss import NonFiniteLossError


@pytest.fixture
def batch(make_batch):
    batch = make_batch([([[10, 10, 40, 90]], [1]), ([[50, 5, 90, 80]], [-1])])
    for index, sample in enumerate(batch['data_samples']):
        sample.set_metainfo(dict(img_path=f'folder/{index}.jpg'))
    return batch


def spoil(batch):
    """Make the first image NaN."""
    batch['inputs'][0] = torch.full_like(batch['inputs'][0], math.nan, dtype=torch.float32)
    return batch


def test_nothing_is_updated(build_model, batch):
    model = build_model().train()
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), 0.1, momentum=0.9))
    model.train_step(copy.deepcopy(batch), wrapper)
    before = copy.deepcopy((dict(model.named_parameters()), model.roi_head.reid_head.loss_oim.state_dict()))
    with pytest.raises(NonFiniteLossError) as error:
        model.train_step(spoil(batch), wrapper)
    assert error.value.what.startswith('loss_rpn_cls is nan, ')
    assert error.value.what.endswith(', loss_oim is nan on folder/0.jpg, folder/1.jpg')
    after = dict(model.named_parameters()), model.roi_head.reid_head.loss_oim.state_dict()
    for old, new in zip(before, after, strict=True):
        assert all(torch.equal(old[name], new[name]) for name in old)


def test_nan_proposals_are_no_proposals(build_model, make_batch):
    """Without a person either, the RoI head has nothing to do; the RPN's losses are named all the same."""
    model = build_model().train()
    with pytest.raises(NonFiniteLossError, match='^loss_rpn_cls is nan'):
        model.train_step(spoil(make_batch([([], [])])), OptimWrapper(torch.optim.SGD(model.parameters(), 0.1)))
