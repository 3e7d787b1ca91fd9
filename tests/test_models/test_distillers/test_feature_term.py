"""Any loss between feature maps: adaptation layer, mask, and the check of what can be called."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from torch import nn

from mmps_kd.errors import UserError
from mmps_kd.models.distillers.teacher import FeatureLevel
from mmps_kd.models.distillers.terms import ADAPTERS, FeatureTerm, TeacherOutputs, box_weights

OURS, THEIRS = FeatureLevel('backbone.0', 3, 16), FeatureLevel('neck.1', 5, 16)


@MODELS.register_module(force=True)
class PlainDistance(nn.Module):
    """A loss as other libraries have them: ``forward(preds_S, preds_T)``."""

    def __init__(self, loss_weight=1.0):
        super().__init__()
        self.loss_weight = loss_weight
        self.calls = 0

    def forward(self, preds_S, preds_T):  # noqa: N803
        self.calls += 1
        return self.loss_weight * (preds_S - preds_T).abs().mean()


@MODELS.register_module(force=True)
class Odd(nn.Module):
    """Losses that do not fit."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, *maps):
        if self.kind == 'three':
            _, _, _ = maps
        if self.kind == 'attribute':
            return maps[0].nothing
        return maps[0] if self.kind == 'map' else maps[0] @ torch.zeros(3)


def outputs(seed=0):
    ours, theirs = (torch.randn(2, c, 4, 6, generator=torch.Generator().manual_seed(seed + c)) for c in (3, 5))
    return SimpleNamespace(features=(ours.requires_grad_(),)), TeacherOutputs((None, theirs))


def term(loss=None, **more):
    torch.manual_seed(0)
    return FeatureTerm(loss or dict(type='PlainDistance'), OURS, FeatureLevel('neck.1', 5, 16), **more)


def test_a_loss_of_another_library():
    student, teacher = outputs()
    plain = term(dict(type='PlainDistance', loss_weight=2.0))
    assert plain.loss.calls == 0
    value = plain(student, teacher)
    adapted = nn.functional.conv2d(student.features[0], plain.adapter.weight, plain.adapter.bias)
    assert value.item() == pytest.approx(2 * (adapted - teacher.features[1]).abs().mean().item(), rel=1e-6)
    value.backward()
    assert student.features[0].grad.abs().sum() > 0
    assert plain.adapter.weight.grad.abs().sum() > 0


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_fp32_under_autocast(dtype):
    student, teacher = outputs()
    plain = term()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = plain(student, teacher)
    assert value.dtype == torch.float32
    assert value.item() == plain(student, teacher).item()


def test_adapters():
    same = FeatureLevel('backbone.0', 5, 16)
    assert isinstance(FeatureTerm(dict(type='PlainDistance'), same, same).adapter, nn.Identity)
    assert term().adapter.weight.shape == (5, 3, 1, 1)
    conv, relu = term(adapter='conv3x3_relu').adapter
    assert isinstance(relu, nn.ReLU)
    assert conv.weight.shape == (5, 3, 3, 3)
    assert not conv.bias.any()
    wide, _ = ADAPTERS['conv3x3_relu'](32, 64)
    assert wide.weight.std().item() == pytest.approx(0.01, rel=0.05)
    x = torch.randn(2, 3, 4, 6)
    padded = np.pad(x.double().numpy(), [(0, 0), (0, 0), (1, 1), (1, 1)])
    weight = conv.weight.detach().double().numpy()
    for b, c, h, w in [(0, 0, 0, 0), (1, 4, 3, 5), (1, 2, 1, 3)]:
        expected = max((padded[b, :, h : h + 3, w : w + 3] * weight[c]).sum(), 0)
        assert relu(conv(x))[b, c, h, w].item() == pytest.approx(expected, abs=1e-6)


def test_building_draws_nothing_from_the_random_stream():
    state = torch.get_rng_state()
    FeatureTerm(dict(type='PlainDistance'), OURS, THEIRS)
    assert torch.equal(torch.get_rng_state(), state)
    weights = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        weights.append(FeatureTerm(dict(type='PlainDistance'), OURS, THEIRS).adapter.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ('loss', 'more', 'message'),
    [
        (
            dict(type='PlainDistance'),
            dict(mask='fine_grained'),
            r'PlainDistance cannot be called as loss\(student, teacher, mask\)',
        ),
        (dict(type='Odd', kind='three'), {}, r'Odd cannot be called as loss\(student, teacher\)'),
        (dict(type='Odd', kind='attribute'), {}, "has no attribute 'nothing'"),
        (dict(type='Odd', kind='shapes'), {}, 'after conv1x1 3->5: size mismatch'),
        (dict(type='Odd', kind='map'), {}, 'Odd gives no single value for two feature maps'),
        (dict(type='PlainDistance'), dict(adapter='none'), 'after none 3->5: The size of tensor a'),
        (
            dict(type='PlainDistance'),
            dict(adapter='mlp'),
            "adapter='mlp' does not exist: choose one of conv1x1, conv3x3_relu, none",
        ),
        (
            dict(type='PlainDistance'),
            dict(mask='near'),
            'choose one of fine_grained, boxes',
        ),
        (dict(type='FeatureImitationLoss', mode='fine_grained'), {}, "add mask='fine_grained' beside the loss"),
    ],
)
def test_what_does_not_fit_is_found_when_built(loss, more, message):
    with pytest.raises(UserError, match=message):
        term(loss, **more)


def test_weights_of_cells_in_boxes():
    # 4x3 cells of 16 pixels, the last column padding. One box of 2x2 cells, one of a single cell inside it.
    boxes = torch.tensor([[1.0, 1, 31, 31], [17, 17, 20, 20]])
    people, others = box_weights(boxes, (48, 48), (3, 4), 16)
    assert people.tolist() == [[0.25, 0.25, 0, 0], [0.25, 1, 0, 0], [0, 0, 0, 0]]
    assert others[:, 3].tolist() == [0, 0, 0]
    assert others[2].tolist() == pytest.approx([0.2, 0.2, 0.2, 0])
    assert others.sum().item() == pytest.approx(1)


def test_weights_without_people_and_of_a_box_in_the_padding():
    people, others = box_weights(torch.zeros(0, 4), (32, 32), (2, 2), 16)
    assert not people.any()
    assert others.tolist() == [[0.25, 0.25], [0.25, 0.25]]
    people, others = box_weights(torch.tensor([[33.0, 0, 40, 8]]), (32, 32), (2, 3), 16)
    assert not people.any()
    assert others.sum().item() == pytest.approx(1)


def test_a_mask_of_anchors_where_the_rpn_leaves_out_the_first_map():
    level, loss = FeatureLevel('backbone.1', 2, 16), dict(type='FeatureImitationLoss', mode='fine_grained')
    near = FeatureTerm(loss, level, level, mask='fine_grained')
    rpn = SimpleNamespace(
        cls_scores=[torch.zeros(1, 1, 1, 2)],
        anchors=[torch.tensor([[[0.0, 0, 16, 16], [16, 0, 32, 16]]])],
        valid_flags=[torch.ones(1, 2, dtype=torch.bool)],
    )
    maps = torch.zeros(1, 1, 2, 4), torch.tensor([[3.0, 0.0], [4.0, 2.0]]).reshape(1, 2, 1, 2)
    student = SimpleNamespace(features=maps, rpn=rpn, boxes=[torch.tensor([[16.0, 0, 32, 16]])])
    # Of the second cell (0, 2), which is the only one near a person.
    assert near.distance(student, TeacherOutputs((None, 2 * maps[1]))).item() == pytest.approx(0.5)
    student.features = maps[:1] * 2
    with pytest.raises(UserError, match='the RPN does not read the map'):
        near(student, TeacherOutputs((None, maps[1])))
