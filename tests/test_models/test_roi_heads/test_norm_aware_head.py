"""One vector whose length says whether and whose direction says who."""

import pytest
import torch
from mmdet.registry import MODELS


@pytest.fixture
def head():
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='NormAwareReIDHead',
            in_channels=2,
            feat_channels=2,
            loss_oim=dict(type='OIMLoss', num_identities=5),
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        )
    )


def test_length_and_direction_by_hand(head):
    head.fc.weight.data = torch.eye(2)
    head.fc.bias.data.zero_()
    head.rescaler.running_mean.fill_(3.0)
    head.rescaler.running_var.fill_(4.0 - head.rescaler.eps)
    head.rescaler.weight.data.fill_(2.0)
    head.rescaler.bias.data.fill_(0.5)
    vectors = torch.tensor([[3.0, 4.0], [0.0, -1.0]])
    feats = vectors[:, :, None, None].expand(2, 2, 7, 7)
    embeddings, logits = head.eval().embed_and_score(feats)
    assert embeddings.tolist() == [pytest.approx([0.6, 0.8]), pytest.approx([0.0, -1.0])]
    # Lengths 5 and 1: (5 - 3) / 2 * 2 + 0.5 and (1 - 3) / 2 * 2 + 0.5.
    assert logits.tolist() == pytest.approx([2.5, -1.5], abs=1e-5)
    assert torch.equal(head(feats), embeddings)


def test_loss_of_scores_by_hand(head):
    logits = torch.tensor([0.0, 2.0, -1.0])
    loss = head.loss_score(logits, torch.tensor([True, True, False]))
    probabilities = logits.sigmoid()
    expected = -(probabilities[0].log() + probabilities[1].log() + (1 - probabilities[2]).log()) / 3
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)


def test_the_scale_of_the_vectors_does_not_matter_in_training(head):
    feats = torch.randn(6, 2, 7, 7)
    embeddings, logits = head.embed_and_score(feats)
    head.fc.weight.data *= 10
    head.fc.bias.data *= 10
    again, same = head.embed_and_score(feats)
    assert torch.allclose(embeddings, again, atol=1e-6)
    # Up to the batch norm's epsilon, which is small against the variance only when vectors are long.
    assert torch.allclose(logits.argsort(), same.argsort())


@pytest.mark.parametrize('count', [0, 1, 2])
def test_few_rois(head, count):
    embeddings, logits = head.embed_and_score(torch.randn(count, 2, 7, 7))
    assert (embeddings.shape, logits.shape) == ((count, 2), (count,))
    loss = head.loss_score(logits, torch.zeros(count, dtype=torch.bool)) + embeddings.sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())


def test_fp32_under_autocast(head):
    with torch.autocast('cpu', dtype=torch.bfloat16):
        embeddings, logits = head.embed_and_score(torch.randn(3, 2, 7, 7))
    assert (embeddings.dtype, logits.dtype) == (torch.float32, torch.float32)


def test_two_branches_by_hand():
    cfg = dict(in_channels=5, before_channels=2, feat_channels=4, loss_oim=dict(type='OIMLoss', num_identities=5))
    loss_cls = dict(type='CrossEntropyLoss', use_sigmoid=True)
    head = MODELS.build(dict(type='NormAwareReIDHead', with_bn=True, loss_cls=loss_cls, **cfg)).eval()
    feats = torch.randn(3, 5, 1, 1, generator=torch.Generator().manual_seed(0))
    halves = [head.before(feats[:, :2, 0, 0]), head.bn(head.fc(feats[:, 2:, 0, 0]))]
    vectors = torch.cat(halves, dim=1)
    embeddings, logits = head.embed_and_score(feats)
    assert (head.fc.in_features, head.fc.out_features) == (3, 2)
    assert head.loss_oim.lut.shape == (5, 4)
    assert torch.allclose(embeddings, vectors / vectors.norm(dim=1, keepdim=True))
    assert torch.allclose(logits, head.rescaler(vectors.norm(dim=1, keepdim=True))[:, 0])


def test_max_pooling_by_hand():
    layer = MODELS.build(dict(type='MaxPoolResLayer', depth=18, with_input=True))
    layer.eval()
    x = torch.randn(2, 256, 6, 4)
    pooled = layer(x)
    assert pooled.shape == (2, 256 + 512, 1, 1)
    assert torch.equal(pooled[:, :256, 0, 0], x.flatten(2).max(dim=2).values)
    assert torch.equal(pooled[:, 256:, 0, 0], layer.layer4(x).flatten(2).max(dim=2).values)
