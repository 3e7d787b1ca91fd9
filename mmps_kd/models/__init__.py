"""Models of person search; importing registers them in mmdet's registries."""

from .backbones import *  # noqa: F403
from .dense_heads import *  # noqa: F403
from .detectors import *  # noqa: F403
from .distillers import *  # noqa: F403
from .losses import *  # noqa: F403
from .roi_heads import *  # noqa: F403
