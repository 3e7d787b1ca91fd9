"""RoI heads of person search."""

from .max_pool_res_layer import MaxPoolResLayer
from .mobilenet_v2_layers import MobileNetV2Layers
from .nae_roi_head import NAERoIHead
from .qsim_head import QSimNet
from .reid_head import BNLinear, NormAwareReIDHead, ReIDHead
from .reid_roi_head import ReIDRoIHead, RoIOutputs
from .roi_extractor import SparseRoIAlign, SparseRoIExtractor
from .seq_roi_head import SecondStageOutputs, SeqRoIHead, SeqRoIOutputs

__all__ = [
    'BNLinear',
    'MaxPoolResLayer',
    'MobileNetV2Layers',
    'NAERoIHead',
    'NormAwareReIDHead',
    'QSimNet',
    'ReIDHead',
    'ReIDRoIHead',
    'RoIOutputs',
    'SecondStageOutputs',
    'SeqRoIHead',
    'SeqRoIOutputs',
    'SparseRoIAlign',
    'SparseRoIExtractor',
]
