"""RoI heads of person search."""

from .norm_aware_head import NormAwareReIDHead
from .reid_head import ReIDHead
from .reid_roi_head import ReIDRoIHead, RoIOutputs
from .seq_roi_head import SecondStageOutputs, SeqRoIHead, SeqRoIOutputs

__all__ = [
    'NormAwareReIDHead',
    'ReIDHead',
    'ReIDRoIHead',
    'RoIOutputs',
    'SecondStageOutputs',
    'SeqRoIHead',
    'SeqRoIOutputs',
]
