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
