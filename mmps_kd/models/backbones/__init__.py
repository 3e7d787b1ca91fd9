"""Backbones of person search."""

from .short_mobilenet_v2 import ShortMobileNetV2
from .siamese_resnet import QSSE, SiameseResNet

__all__ = ['QSSE', 'ShortMobileNetV2', 'SiameseResNet']
