"""Features of regions, read in a way that exporters can follow."""

import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor, nn

from .ops import roi_align


class RoIFeatures(nn.Module):
    """mmdet's extractor, with every region read from every level and the fitting one chosen afterwards.

    Args:
        extractor: Its levels and the rule that chooses among them.
    """

    def __init__(self, extractor: SingleRoIExtractor) -> None:
        super().__init__()
        self.extractor = extractor
        self.num_inputs = extractor.num_inputs

    def forward(self, feats: tuple[Tensor], rois: Tensor) -> Tensor:
        """Features (R, C, h, w) of RoIs (R, 5) of the one image."""
        layers = self.extractor.roi_layers
        chosen, *others = (
            roi_align(feat, rois[:, 1:], *layer.output_size, layer.spatial_scale, layer.sampling_ratio)
            for layer, feat in zip(layers, feats, strict=True)
        )
        fitting = self.extractor.map_roi_levels(rois, len(feats))
        for level, read in enumerate(others, start=1):
            chosen = torch.where((fitting == level)[:, None, None, None], read, chosen)
        return chosen
