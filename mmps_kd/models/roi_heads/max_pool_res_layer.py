"""conv5 with maximum pooling, as SeqNet, NAE and OIMNet++ have it."""

import torch
from mmdet.models.roi_heads.shared_heads import ResLayer
from mmdet.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class MaxPoolResLayer(ResLayer):
    """mmdet's ``ResLayer`` followed by the maximum over the cells of an RoI.

    Args:
        with_input: Give the maximum of the layer's input too, before that of its output: the two branches of
            :class:`NormAwareReIDHead`.
        **kwargs: As for ``ResLayer``.
    """

    def __init__(self, *args, with_input: bool = False, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.with_input = with_input

    def forward(self, x: Tensor) -> Tensor:
        """Pooled features of RoIs.

        Args:
            x: (R, C, h, w).

        Returns:
            (R, D, 1, 1); with ``with_input`` (R, C + D, 1, 1), the input's channels first.
        """
        pooled = super().forward(x).amax(dim=(2, 3), keepdim=True)
        return torch.cat([x.amax(dim=(2, 3), keepdim=True), pooled], dim=1) if self.with_input else pooled
