"""Squeeze and excitation of two images together."""

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

START_BIAS = 3.0
"""Logit of all weights before training: sigmoid(3) = 0.95."""


@MODELS.register_module()
class QSSE(BaseModule):
    """Query-guided Siamese squeeze and excitation (Munjal et al., CVPR 2019).

    The means of both feature maps over space, concatenated, give one weight a channel; the same weights multiply
    query and gallery. Before training all weights are 0.95, whatever the images, so that pretrained features keep
    their meaning; that start is this project's choice.

    Args:
        channels: Channels C of either map.
        ratio: The bottleneck has C / ``ratio`` channels, one at least.
    """

    def __init__(self, channels: int, ratio: int = 16) -> None:
        super().__init__()
        hidden = max(channels // ratio, 1)
        self.squeeze = nn.Linear(2 * channels, hidden)
        self.excite = nn.Linear(hidden, channels)
        # Here, not in init_weights: a backbone with pretrained weights does not call its children's.
        nn.init.zeros_(self.excite.weight)
        nn.init.constant_(self.excite.bias, START_BIAS)

    def forward(self, query: Tensor, gallery: Tensor) -> tuple[Tensor, Tensor]:
        """Re-weight the channels of both.

        Args:
            query: (B, C, Hq, Wq).
            gallery: (B, C, Hg, Wg), of any size.

        Returns:
            Both, of the same shapes.
        """
        pooled = torch.cat([query.mean(dim=(2, 3)), gallery.mean(dim=(2, 3))], dim=1)
        weights = self.excite(self.squeeze(pooled).relu()).sigmoid()[:, :, None, None]
        return query * weights, gallery * weights
