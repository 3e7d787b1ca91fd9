"""Person search for MMDetection, with knowledge distillation.

Importing the package registers its parts in mmdet's registries. Without MMDetection only
:mod:`mmps_kd.evaluation.functional` is of use, which needs NumPy and SciPy alone.
"""

import contextlib
import io
from importlib.util import find_spec

from .version import __version__

__all__ = ['__version__']

if find_spec('mmdet') is not None:
    # The maintained fork of mmdet prints two lines when its optional package OneDL is not installed.
    with contextlib.redirect_stdout(io.StringIO()):
        import mmdet.datasets  # noqa: F401

    from . import datasets, engine, evaluation, models
    from .compat import add_config_scope

    add_config_scope()
    __all__ += ['datasets', 'engine', 'evaluation', 'models']
