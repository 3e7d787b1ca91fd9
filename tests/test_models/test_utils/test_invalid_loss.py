"""Losses that are NaN or infinite are refused, by name."""

import math

import pytest
import torch

from mmps_kd.errors import UserError
from mmps_kd.models.utils.invalid_loss import NonFiniteLossError, require_finite


def test_finite_losses_pass():
    levels = [torch.tensor(1.0), torch.tensor(2.0)]
    require_finite(dict(loss_a=torch.tensor(3e38), loss_levels=levels, acc=torch.tensor(math.nan)), ['a.jpg'])


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('in_list', [False, True])
def test_bad_losses_and_their_images_are_named(value, in_list):
    bad = torch.tensor(value, requires_grad=True)
    losses = {'loss_good': torch.tensor(1.0), 'student/loss_bad': [torch.tensor(1.0), bad] if in_list else bad}
    with pytest.raises(NonFiniteLossError) as error:
        require_finite(losses, ['a.jpg', 'b.jpg'])
    assert isinstance(error.value, UserError)
    assert error.value.what == f'student/loss_bad is {value} on a.jpg, b.jpg'
    assert str(error.value).startswith(f'{error.value.what}: nothing was updated; ')


def test_all_bad_losses_are_named():
    losses = dict(loss_a=torch.tensor(math.nan), loss_b=torch.tensor(1.0), loss_c=torch.tensor(math.inf))
    with pytest.raises(NonFiniteLossError, match='^loss_a is nan, loss_c is inf on a.jpg:'):
        require_finite(losses, ['a.jpg'])


def test_a_loss_in_half_precision_is_summed_in_single():
    require_finite(dict(loss_levels=[torch.tensor(6e4, dtype=torch.float16)] * 2), ['a.jpg'])
