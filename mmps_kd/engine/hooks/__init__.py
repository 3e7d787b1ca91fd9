"""Hooks of training and testing."""

from .identity_check_hook import IdentityCheckHook
from .lut_hook import LUTHook
from .visualization_hook import PersonSearchVisualizationHook

__all__ = ['IdentityCheckHook', 'LUTHook', 'PersonSearchVisualizationHook']
