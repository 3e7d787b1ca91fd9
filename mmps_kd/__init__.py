"""Person search for MMDetection, with knowledge distillation.

Importing the package registers its parts in mmdet's registries.
"""

from . import datasets, engine, evaluation, models
from .compat import add_config_scope, allow_checkpoint_classes
from .version import __version__

add_config_scope()
allow_checkpoint_classes()

__all__ = ['__version__', 'datasets', 'engine', 'evaluation', 'models']
