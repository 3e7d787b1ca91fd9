"""Person search for MMDetection, with knowledge distillation."""

from .version import __version__

__all__ = ['__version__']
