"""RoI features are mmcv's and mmdet's."""

import pytest
import torch
from mmcv.ops import RoIAlign
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor

from mmps_kd.models.roi_heads import SparseRoIAlign, SparseRoIExtractor

# Over the border, without area, outside, the whole map of 12x16 cells of 4 pixels, and more.
BOXES = [[-9, -8, 30, 20], [8, 8, 8, 8], [-300, -300, -200, -200], [90, 90, 99, 99], [0, 0, 64, 48], [-8, -8, 72, 104]]


@pytest.fixture
def inputs():
    """Feature maps (2, 5, 12, 16) and RoIs of both images."""
    generator = torch.Generator().manual_seed(0)
    corners = 100 * torch.rand(40, 2, 2, generator=generator) - 20
    boxes = torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)
    boxes = torch.cat([boxes, torch.tensor(BOXES, dtype=torch.float32)])
    images = torch.arange(len(boxes))[:, None] % 2
    return torch.randn(2, 5, 12, 16, generator=generator), torch.cat([images, boxes], dim=1)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('samples', [0, 1, 2, 3])
@pytest.mark.parametrize('size', [(4, 2), (7, 7)])
def test_roi_align_is_that_of_mmcv(inputs, size, samples, aligned):
    feats, rois = inputs
    expected_feats, own_feats = feats.clone().requires_grad_(), feats.clone().requires_grad_()
    expected = RoIAlign(size, 1 / 4, samples, 'avg', aligned)(expected_feats, rois)
    own = SparseRoIAlign(size, 1 / 4, samples, 'avg', aligned)(own_feats, rois)
    torch.testing.assert_close(own, expected, atol=1e-6, rtol=0)
    upstream = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    expected.backward(upstream)
    own.backward(upstream)
    torch.testing.assert_close(own_feats.grad, expected_feats.grad, atol=1e-5, rtol=0)


def test_any_memory_format(inputs):
    feats, rois = inputs
    layer = SparseRoIAlign((4, 2), 1 / 4, 2)
    assert torch.equal(layer(feats.to(memory_format=torch.channels_last), rois), layer(feats, rois))


@pytest.mark.parametrize('strides', [[4], [4, 8]])
@pytest.mark.parametrize('count', [0, 46])
def test_extractor_is_that_of_mmdet(inputs, strides, count):
    feats, rois = inputs
    feats = tuple(feats[:, :, :: stride // 4, :: stride // 4].contiguous() for stride in strides)
    layer = dict(type='RoIAlign', output_size=(4, 2), sampling_ratio=2)
    options = dict(roi_layer=layer, out_channels=5, featmap_strides=strides, finest_scale=16)
    expected = SingleRoIExtractor(**options)(feats, rois[:count])
    torch.testing.assert_close(SparseRoIExtractor(**options)(feats, rois[:count]), expected, atol=1e-6, rtol=0)


def test_half_precision_where_nothing_is_trained(inputs):
    feats, rois = inputs
    layer = dict(type='RoIAlign', output_size=(4, 2), sampling_ratio=2)
    extractor = SparseRoIExtractor(roi_layer=layer, out_channels=5, featmap_strides=[4])
    with torch.autocast('cpu', torch.bfloat16):
        trained = extractor((feats,), rois)
        with torch.no_grad():
            found = extractor((feats,), rois)
    assert (trained.dtype, found.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(found.float(), trained, atol=0.02, rtol=0.02)
    assert not torch.equal(found.float(), trained)
