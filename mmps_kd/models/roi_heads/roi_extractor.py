"""RoI features: RoIAlign on a CPU as a sparse matrix product, one feature map without a buffer."""

import torch
import torch.nn.functional as F
from mmcv.ops import RoIAlign
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class SparseRoIExtractor(SingleRoIExtractor):
    """mmdet's ``SingleRoIExtractor``, faster on a CPU: RoIAlign is a :class:`SparseRoIAlign`.

    With one feature map (C4) mmdet fills a buffer for all RoI features with zeros and throws it away; here is none.
    """

    def build_roi_layers(self, layer_cfg: dict, featmap_strides: list[int]) -> nn.ModuleList:
        """One layer for each feature map."""
        if layer_cfg['type'] == 'RoIAlign':
            layer_cfg = {**layer_cfg, 'type': SparseRoIAlign}
        return super().build_roi_layers(layer_cfg, featmap_strides)

    def forward(self, feats: tuple[Tensor], rois: Tensor, roi_scale_factor: float | None = None) -> Tensor:
        """Features (R, C, h, w) of RoIs (R, 5); see mmdet."""
        if len(feats) > 1:
            return super().forward(feats, rois, roi_scale_factor)
        (feat,) = feats
        if feat.device.type == 'cpu' and torch.is_autocast_enabled('cpu') and not torch.is_grad_enabled():
            # What follows reads them in half precision. In training gradients are summed up here, which needs fp32.
            feat = feat.to(torch.get_autocast_dtype('cpu'))
        return self.roi_layers[0](feat, rois.type_as(feats[0]))


class SparseRoIAlign(RoIAlign):
    """mmcv's RoIAlign, on a CPU as one weighted sum of feature cells for each cell of an RoI.

    mmcv looks up four feature cells for each sampled point, channel by channel. Here the points of an RoI's cell that
    read the same feature cell are put together first, and all channels of a feature cell are read at once. Sums are
    rounded in another order.
    """

    def forward(self, feats: Tensor, rois: Tensor) -> Tensor:
        """Average features in the cells of RoIs.

        Args:
            feats: (B, C, H, W), in any memory format.
            rois: (R, 5) image index, x1, y1, x2, y2.

        Returns:
            (R, C, h, w); on a CPU ``channels_last``.
        """
        if feats.device.type != 'cpu' or self.pool_mode != 'avg':
            return super().forward(feats, rois)
        channels, height, width = feats.shape[1:]
        corners = rois[:, 1:] * self.spatial_scale - (0.5 if self.aligned else 0)
        starts, sizes = corners[:, :2], corners[:, 2:] - corners[:, :2]
        if not self.aligned:
            sizes = sizes.clamp(min=1)
        cells_y, cells_x = self.output_size
        rows, row_weights = axis_weights(starts[:, 1], sizes[:, 1], cells_y, height, self.sampling_ratio)
        columns, column_weights = axis_weights(starts[:, 0], sizes[:, 0], cells_x, width, self.sampling_ratio)

        # (R, h, w, Ky, Kx): what each cell of an RoI reads, and how much of it.
        first = rois[:, 0].long()[:, None, None] * height
        indices = ((first + rows) * width)[:, :, None, :, None] + columns[:, None, :, None, :]
        weights = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]
        read = weights != 0
        counts = read.sum(dim=(3, 4)).flatten()
        table = feats.permute(0, 2, 3, 1).reshape(-1, channels)
        sums = F.embedding_bag(
            indices[read],
            table,
            counts.cumsum(0) - counts,
            mode='sum',
            per_sample_weights=weights[read].to(table.dtype),
        )
        return sums.view(len(rois), cells_y, cells_x, channels).permute(0, 3, 1, 2)


def axis_weights(starts: Tensor, sizes: Tensor, cells: int, length: int, samples: int) -> tuple[Tensor, Tensor]:
    """The feature cells that RoIs read along one axis, by bilinear interpolation at points in equal distances.

    Args:
        starts: (R,) where RoIs begin, in feature cells.
        sizes: (R,).
        cells: Cells of an RoI.
        length: Feature cells.
        samples: Points in a cell of an RoI; 0 for as many as feature cells.

    Returns:
        (R, cells, K) int64 feature cells and their weights, which add up to 1; to less at the border of the map.
    """
    starts, sizes = starts[:, None, None], sizes[:, None, None]
    points = torch.full_like(sizes, samples) if samples else torch.ceil(sizes / cells)
    point = torch.arange(max(int(points.amax()), 1) if len(points) else 1)
    step = sizes / cells
    positions = starts + torch.arange(cells)[:, None] * step + (point + 0.5) * step / points
    inside = (point < points) & (positions >= -1) & (positions <= length)
    positions = positions.clamp(0, length - 1)
    low = torch.where(inside, positions.floor(), length - 1)
    lowest = low.amin(dim=2, keepdim=True)
    low = torch.where(inside, low, lowest)
    share = torch.where(inside, positions - low, 0)  # of the next feature cell
    each = torch.where(inside, 1 / points, 0)
    low, lowest = (low - lowest).long(), lowest.long()
    weights = positions.new_zeros(len(sizes), cells, int(low.amax()) + 2 if len(low) else 2)
    weights.scatter_add_(2, low, each * (1 - share))
    weights.scatter_add_(2, low + 1, each * share)
    reads = lowest + torch.arange(weights.shape[2])
    return reads.clamp(max=length - 1), weights
