"""The re-identification branch."""

import pytest
import torch
from mmdet.registry import MODELS


def build(**kwargs):
    torch.manual_seed(0)
    return MODELS.build(
        dict(type='ReIDHead', in_channels=4, feat_channels=3, loss_oim=dict(type='OIMLoss', num_identities=5), **kwargs)
    )


def test_embedding_is_the_normalised_linear_map_of_the_pooled_feature():
    head = build()
    feats = torch.randn(2, 4, 7, 7)
    expected = feats.mean((2, 3)) @ head.fc.weight.t() + head.fc.bias
    assert torch.allclose(head(feats), expected / expected.norm(dim=1, keepdim=True), atol=1e-6)


def test_without_pooling_every_cell_counts():
    head = build(with_avg_pool=False, roi_feat_size=(6, 2))
    assert head.fc.in_features == 4 * 6 * 2
    feats = torch.randn(1, 4, 6, 2)
    assert not torch.allclose(head(feats), head(feats.flip(2)))


def test_no_roi():
    assert build()(torch.zeros(0, 4, 7, 7)).shape == (0, 3)


def test_table_has_the_size_of_the_embedding():
    assert build().loss_oim.lut.shape == (5, 3)


def test_embeddings_stay_fp32_under_autocast():
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = build()(torch.randn(2, 4, 7, 7))
    assert out.dtype == torch.float32
    assert out.norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)


def test_convolutions_and_batch_norm_come_before_the_unit_length():
    head = build(num_convs=1, with_bn=True)
    feats = torch.randn(3, 4, 7, 7)
    linear = head.fc(head.convs(feats).mean((2, 3)))
    # Batch statistics in training: each dimension has mean 0 and variance 1 over the RoIs.
    normed = (linear - linear.mean(0)) / (linear.var(0, unbiased=False) + head.bn.eps).sqrt()
    assert torch.allclose(head(feats), torch.nn.functional.normalize(normed, dim=1), atol=1e-5)


@pytest.mark.parametrize('count', [0, 1])
def test_batch_norm_of_too_few_rois_uses_the_running_statistics(count):
    head = build(num_convs=1, with_bn=True)
    before = head.bn.running_mean.clone()
    head(torch.randn(count, 4, 7, 7)).sum().backward()
    assert torch.equal(head.bn.running_mean, before)
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())
    assert all(torch.isfinite(b).all() for b in head.buffers())
