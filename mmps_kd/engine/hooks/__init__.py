"""Hooks of training and testing."""

from .identity_check_hook import IdentityCheckHook
from .visualization_hook import PersonSearchVisualizationHook

__all__ = ['IdentityCheckHook', 'PersonSearchVisualizationHook']
