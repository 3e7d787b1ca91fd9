"""Backbones of person search."""

from .siamese_resnet import QSSE, SiameseResNet

__all__ = ['QSSE', 'SiameseResNet']
