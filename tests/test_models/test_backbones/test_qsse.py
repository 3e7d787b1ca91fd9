"""Squeeze and excitation of a pair, against loops over channels."""

import math

import pytest
import torch
from torch.nn.functional import pad

from mmps_kd.models import QSSE


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 8, 5, 7, generator=generator), torch.randn(2, 8, 3, 9, generator=generator)


@pytest.fixture
def trained():
    torch.manual_seed(0)
    qsse = QSSE(8, ratio=2)
    for parameter in qsse.parameters():
        torch.nn.init.normal_(parameter)
    return qsse


def test_before_training_all_channels_keep_most_of_their_weight(pair):
    query, gallery = QSSE(8)(*pair)
    weight = 1 / (1 + math.exp(-3))
    assert torch.allclose(query, pair[0] * weight)
    assert torch.allclose(gallery, pair[1] * weight)


def test_by_hand():
    qsse = QSSE(2, ratio=2)
    qsse.load_state_dict(
        {
            'squeeze.weight': torch.tensor([[1.0, 0, 2, 0]]),
            'squeeze.bias': torch.tensor([0.5]),
            'excite.weight': torch.tensor([[1.0], [-1]]),
            'excite.bias': torch.tensor([0.0, 1]),
        }
    )
    query = torch.tensor([[[[1.0, 3]], [[5, 7]]]])
    gallery = torch.tensor([[[[0.25]], [[9]]]])
    # The means are 2, 6 and 0.25, 9; squeezed: 2 + 2 * 0.25 + 0.5 = 3; the weights: sigmoid(3), sigmoid(-2).
    first, second = 1 / (1 + math.exp(-3)), 1 / (1 + math.exp(2))
    out = qsse(query, gallery)
    assert out[0].flatten().tolist() == pytest.approx([first, 3 * first, 5 * second, 7 * second])
    assert out[1].flatten().tolist() == pytest.approx([0.25 * first, 9 * second])


def test_both_maps_get_the_same_weights_each_pair_its_own(trained, pair):
    query, gallery = trained(*pair)
    ratios = (query / pair[0])[:, :, 0, 0], (gallery / pair[1])[:, :, 0, 0]
    assert torch.allclose(*ratios, atol=1e-6)
    assert not torch.allclose(ratios[0][0], ratios[0][1], atol=1e-3)
    alone = trained(pair[0][1:], pair[1][1:])
    assert torch.allclose(alone[0], query[1:]) and torch.allclose(alone[1], gallery[1:])


def test_swapped_pair_and_swapped_halves_are_the_same(trained, pair):
    query, gallery = trained(*pair)
    with torch.no_grad():
        trained.squeeze.weight.copy_(trained.squeeze.weight.roll(8, dims=1))
    gallery_again, query_again = trained(pair[1], pair[0])
    assert torch.allclose(query, query_again, atol=1e-6)
    assert torch.allclose(gallery, gallery_again, atol=1e-6)


def test_the_weights_depend_on_either_image(trained, pair):
    _, gallery = trained(*pair)
    _, other = trained(pair[0] + 1, pair[1])
    assert not torch.allclose(gallery, other, atol=1e-3)
    _, padded = trained(pad(pair[0], (0, 0, 0, 5)), pair[1])
    assert padded.shape == gallery.shape


def test_few_channels_keep_a_bottleneck():
    assert QSSE(8, ratio=16).squeeze.out_features == 1
