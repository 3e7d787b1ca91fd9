"""RoI heads of person search."""

from .reid_head import ReIDHead
from .reid_roi_head import ReIDRoIHead, RoIOutputs

__all__ = ['ReIDHead', 'ReIDRoIHead', 'RoIOutputs']
