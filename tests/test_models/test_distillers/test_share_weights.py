"""Loss weights from shares of the gradient: by hand, in a training step, resumed, and alike on all ranks."""

import copy

import pytest
import torch

from mmps_kd.errors import UserError
from mmps_kd.models.distillers import ShareWeights
from mmps_kd.models.distillers.diagnostics import gradient_norms
from mmps_kd.models.distillers.share_weights import INTERVAL, parse_share

PEOPLE = [([[10, 8, 40, 88], [60, 20, 90, 92]], [3, -1]), ([[20, 10, 50, 90]], [0])]


def losses_of(factor=5.0):
    x = torch.ones(1, 1, 2, 2, requires_grad=True)
    return dict(loss_own=3 * x.sum(), acc=x.sum(), loss_hint=factor * x.sum()), (x,)  # norms 6 and 2 * factor


def test_by_hand():
    weights = ShareWeights(dict(loss_hint=0.25))
    losses, features = losses_of()
    scaled = weights(losses, features)
    assert weights.weights.tolist() == pytest.approx([1 / 3 * 6 / 10])
    norms = gradient_norms(scaled, features)
    assert norms['loss_hint'] / sum(norms.values()) == pytest.approx(0.25)
    assert scaled['loss_own'] is losses['loss_own']
    assert scaled['acc'] is losses['acc']


def test_two_shares():
    losses, features = losses_of()
    losses['loss_cls'] = 0.5 * features[0].sum()
    norms = gradient_norms(ShareWeights(dict(loss_hint=0.5, loss_cls=0.2))(losses, features), features)
    total = sum(norms.values()).item()
    assert {name: norm.item() / total for name, norm in norms.items()} == pytest.approx(
        dict(loss_own=0.3, loss_hint=0.5, loss_cls=0.2)
    )


def test_measured_again_after_an_interval_and_averaged():
    weights = ShareWeights(dict(loss_hint=0.5))
    for _ in range(INTERVAL):
        weights(*losses_of())
    assert weights.weights.item() == pytest.approx(6 / 10)
    weights(*losses_of(factor=10.0))
    assert weights.weights.item() == pytest.approx(6 / (0.8 * 10 + 0.2 * 20))


def test_a_loss_that_is_often_0_has_its_share_in_the_mean():
    weights = ShareWeights(dict(loss_hint=0.5))
    assert weights(*losses_of(factor=0.0))['loss_hint'].item() == 0
    assert weights.weights.item() == 0  # nothing is known of it
    for factor in (5.0, 0.0, 0.0):
        weights.steps.value = INTERVAL
        weights(*losses_of(factor))
    assert weights.weights.item() == pytest.approx(6 / (0.8 * 0.8 * 0.2 * 10))


def test_it_goes_on_from_a_checkpoint():
    weights = ShareWeights(dict(loss_hint=0.5))
    for _ in range(INTERVAL - 1):
        weights(*losses_of())
    resumed = ShareWeights(dict(loss_hint=0.5))
    resumed.load_state_dict(copy.deepcopy(weights.state_dict()))
    for each in (weights, resumed):
        each(*losses_of())
        each(*losses_of(factor=10.0))
    assert resumed.weights.item() == weights.weights.item() == pytest.approx(6 / (0.8 * 10 + 0.2 * 20))


@pytest.mark.parametrize('value', ['share:0', 'share:1', 'share:', 'part:0.1', '0.1', 'share:much'])
def test_what_is_no_share(value):
    with pytest.raises(UserError, match=r"write a number, or 'share:' and a number above 0 and below 1"):
        parse_share(value)


def test_shares_leave_something_to_the_student():
    with pytest.raises(UserError, match='the shares of a, b are 1.2 together'):
        ShareWeights(dict(a=0.6, b=0.6))


def test_frozen_maps_have_no_shares():
    with pytest.raises(UserError, match='all frozen'):
        ShareWeights(dict(loss_hint=0.5))(dict(loss_hint=torch.ones(())), (torch.ones(1, 1, 2, 2),))


def test_a_loss_that_reaches_only_frozen_maps_has_no_share():
    frozen, (x,) = torch.ones(1, 1, 2, 2), losses_of()[1]
    head = torch.ones((), requires_grad=True)
    losses = dict(loss_own=x.sum(), loss_hint=(head * frozen).sum())
    with pytest.raises(UserError, match="loss_hint reaches none .* in place of 'share:0.5'"):
        ShareWeights(dict(loss_hint=0.5))(losses, (frozen, x))


def test_in_a_training_step(build_taught, build_model, make_batch):
    terms = [
        dict(at='backbone.0', loss=dict(type='FeatureImitationLoss', loss_weight='share:0.3')),
        dict(at='rpn.cls', loss=dict(type='LogitDistillationLoss', loss_weight=2.0)),
    ]
    model = build_taught(terms)
    batch = model.data_preprocessor(make_batch(PEOPLE), training=True)
    outputs = []
    extract, model.extract_feat = model.extract_feat, lambda *args: outputs.append(extract(*args)) or outputs[-1]
    norms = gradient_norms(model(**batch, mode='loss'), outputs[0])
    assert (norms['distill/loss_backbone.0'] / sum(norms.values())).item() == pytest.approx(0.3, rel=1e-4)
    assert 'share 0.3 * backbone.0: FeatureImitationLoss(hint, l2)' in model.objective()
    assert '2 * rpn.cls' in model.objective()
    # A plain student leaves them aside.
    state = model.state_dict()
    assert any('shares' in key for key in state)
    build_model().load_state_dict(state)
