"""MobileNetV2 up to stride 16."""

from mmdet.models.backbones import MobileNetV2
from mmdet.registry import MODELS


@MODELS.register_module()
class ShortMobileNetV2(MobileNetV2):
    """mmdet's MobileNetV2 without the layers behind stride 16, which it would run and throw away.

    Args:
        **kwargs: As for mmdet's ``MobileNetV2``; ``out_indices`` up to 4.
    """

    arch_settings = MobileNetV2.arch_settings[:5]

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        del self.conv2
        self.layers.remove('conv2')
