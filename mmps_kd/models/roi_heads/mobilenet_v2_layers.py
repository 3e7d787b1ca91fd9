"""Last layers of MobileNetV2 as a shared head."""

from itertools import chain

import torch
from mmdet.models.backbones import MobileNetV2
from mmdet.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class MobileNetV2Layers(MobileNetV2):
    """Layers of mmdet's MobileNetV2 on RoI features, as ResNet's last stage serves C4 detectors.

    Args:
        first: Number of the first layer, 2 to 7; it halves the RoI's height and width where MobileNetV2 does.
        last: Number of the last layer.
        **kwargs: As for mmdet's ``MobileNetV2``. A ``Pretrained`` ``init_cfg`` takes the weights of these layers alone.
    """

    def __init__(self, first: int, last: int, **kwargs) -> None:
        super().__init__(**kwargs)
        kept = [f'layer{number}' for number in range(first, last + 1)]
        for name in set(self.layers) - set(kept) | {'conv1'}:
            delattr(self, name)
        self.layers = kept

    def forward(self, x: Tensor) -> Tensor:
        """Map RoI features (N, C, h, w) to (N, C', h', w')."""
        first, *others = chain.from_iterable(getattr(self, name) for name in self.layers)
        if x.device.type == 'cpu':
            # On a CPU the backward pass of a depthwise convolution of stride 2 takes 28 times as long in bfloat16.
            with torch.autocast('cpu', enabled=False):
                x = first(x.float())
        else:
            x = first(x)
        for block in others:
            x = block(x)
        return x
