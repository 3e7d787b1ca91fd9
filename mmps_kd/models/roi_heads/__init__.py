"""RoI heads of person search."""

from .qsim_head import QSimNet
from .reid_head import NormAwareReIDHead, ReIDHead
from .reid_roi_head import ReIDRoIHead, RoIOutputs
from .seq_roi_head import SecondStageOutputs, SeqRoIHead, SeqRoIOutputs

__all__ = [
    'NormAwareReIDHead',
    'QSimNet',
    'ReIDHead',
    'ReIDRoIHead',
    'RoIOutputs',
    'SecondStageOutputs',
    'SeqRoIHead',
    'SeqRoIOutputs',
]
