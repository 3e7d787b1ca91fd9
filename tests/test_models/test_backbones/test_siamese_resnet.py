"""The Siamese ResNet against mmdet's ResNet."""

import pytest
import torch
from mmdet.models.backbones import ResNet
from mmdet.registry import MODELS

from mmps_kd.errors import UserError
from mmps_kd.models import SiameseResNet

SMALL = dict(base_channels=8, stem_channels=8, num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,))
QUERY = torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(1))
GALLERY = torch.randn(2, 3, 48, 80, generator=torch.Generator().manual_seed(2))


def build(depth=18, qsse=None, weights='start', **more):
    """In eval mode; ``weights``: of QSSE: as at the start, 'one' for all weights 1, 'random'."""
    torch.manual_seed(0)
    model = SiameseResNet(depth=depth, qsse=qsse, zero_init_residual=False, **{**SMALL, **more})
    model.init_weights()
    for name, parameter in model.qsse.named_parameters():
        if weights == 'one' and name.endswith('excite.bias'):
            torch.nn.init.constant_(parameter, 100)
        if weights == 'random':
            torch.nn.init.normal_(parameter)
    model.eval()
    return model


def plain(model, **more):
    resnet = ResNet(**{**SMALL, 'depth': model.depth, **more})
    resnet.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith('qsse.')})
    resnet.eval()
    return resnet


def test_without_qsse_it_is_a_resnet():
    model = build()
    assert model.state_dict().keys() == ResNet(depth=18, **SMALL).state_dict().keys()
    assert not model.is_guided
    expected = plain(model)(GALLERY)
    assert torch.equal(model(GALLERY)[0], expected[0])
    assert torch.equal(model.forward_pair(QUERY, GALLERY)[1][0], expected[0])
    assert torch.equal(model.independent(GALLERY), expected[0])


@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize('at', ['block', 'stage'])
@pytest.mark.parametrize('more', [{}, dict(deep_stem=True, avg_down=True), dict(style='caffe')])
def test_with_weights_of_one_it_is_two_resnets(depth, at, more):
    model = build(depth, dict(at=at), 'one', **more)
    query, gallery = model.forward_pair(QUERY, GALLERY)
    resnet = plain(model, **more)
    assert torch.allclose(query[0], resnet(QUERY)[0], atol=1e-5)
    assert torch.allclose(gallery[0], resnet(GALLERY)[0], atol=1e-5)


@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize(('at', 'count'), [('block', 4), ('stage', 2)])
def test_pretrained_weights_load_and_only_qsse_is_missing(depth, at, count):
    model = build(depth, dict(at=at))
    missing, unexpected = model.load_state_dict(ResNet(depth=depth, **SMALL).state_dict(), strict=False)
    assert unexpected == []
    assert {key.split('.')[0] for key in missing} == {'qsse'}
    blocks = {18: 2 + 2, 50: 4 + 6}[depth] if at == 'block' else count
    assert len(missing) == blocks * 4


@pytest.mark.parametrize('at', ['block', 'stage'])
def test_an_image_alone_is_its_own_partner(at):
    model = build(qsse=dict(at=at), weights='random')
    query, gallery = model.forward_pair(GALLERY, GALLERY)
    assert torch.equal(query[0], gallery[0])
    assert torch.allclose(model(GALLERY)[0], gallery[0], atol=1e-6)


@pytest.mark.parametrize('at', ['block', 'stage'])
def test_only_the_partner_has_influence(at):
    model = build(qsse=dict(at=at), weights='random')
    query, gallery = model.forward_pair(QUERY, GALLERY)
    _, other = model.forward_pair(QUERY.flip(0), GALLERY)
    assert not torch.allclose(gallery[0], other[0], atol=1e-3)
    alone = model.forward_pair(QUERY[1:], GALLERY[1:])
    assert torch.allclose(alone[0][0], query[0][1:], atol=1e-5)
    assert torch.allclose(alone[1][0], gallery[0][1:], atol=1e-5)


@pytest.mark.parametrize(('stages', 'channels'), [((0,), 8), ((1, 2), 8), ((2,), 16)])
def test_what_does_not_depend_on_the_partner_ends_before_the_first_qsse(stages, channels):
    model = build(qsse=dict(stages=stages), weights='random')
    state = model.independent(GALLERY)
    assert state.shape[1] == channels
    assert sorted(model.qsse) == [f'layer{stage + 1}' for stage in stages]
    assert torch.equal(model.dependent(model.independent(QUERY), state)[1][0], model.forward_pair(QUERY, GALLERY)[1][0])


def test_by_hand_the_residual_branch_is_reweighted_before_the_addition():
    model = build(qsse=dict(stages=(2,)), weights='random')
    query, gallery = model.independent(QUERY), model.independent(GALLERY)
    block, qsse = model.layer3[0], model.qsse['layer3'][0]
    branches = []
    for x in (query, gallery):
        branches.append(block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(x))))))
    pooled = torch.cat([branch.mean(dim=(2, 3)) for branch in branches], dim=1)
    weights = torch.sigmoid(qsse.excite(torch.relu(qsse.squeeze(pooled))))[:, :, None, None]
    expected = torch.relu(branches[1] * weights + block.downsample(gallery))
    with torch.no_grad():
        del model.layer3[1], model.qsse['layer3'][1]
        assert torch.allclose(model.dependent(query, gallery)[1][0], expected, atol=1e-6)


def test_frozen_stages_stay_frozen_and_qsse_is_trained():
    model = build(qsse=dict(), frozen_stages=1, norm_eval=True)
    model.train()
    model.forward_pair(QUERY, GALLERY)[1][0].sum().backward()
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen and all(name.startswith(('conv1', 'bn1', 'layer1')) for name in frozen)
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert not model.bn1.training and not model.layer2[0].bn1.training


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (dict(out_indices=(1, 2)), r'last stage alone: set out_indices=\(2,\)'),
        (dict(qsse=dict(at='neck')), "qsse.at must be 'block' or 'stage', got 'neck'"),
        (dict(qsse=dict(stages=(1, 3))), r'qsse.stages=\(1, 3\) must be among 0 to 2'),
        (dict(qsse=dict(stages=())), r'qsse.stages=\(\) must be among 0 to 2'),
        (dict(qsse=dict(), with_cp=True), "with_cp and plugins do not go with qsse.at='block'"),
    ],
)
def test_settings_that_do_not_fit(cfg, message):
    with pytest.raises(UserError, match=message):
        MODELS.build({**SMALL, 'type': 'SiameseResNet', 'depth': 18, **cfg})
