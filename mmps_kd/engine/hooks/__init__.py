"""Hooks of training and testing."""

from .distillation_hook import DistillationHook
from .identity_check_hook import IdentityCheckHook
from .lut_hook import LUTHook
from .visualization_hook import PersonSearchVisualizationHook

__all__ = ['DistillationHook', 'IdentityCheckHook', 'LUTHook', 'PersonSearchVisualizationHook']
