"""What runs around training and testing."""

from .bfloat16_optim_wrapper import BFloat16OptimWrapper  # noqa: F401
from .hooks import *  # noqa: F403
from .loops import *  # noqa: F403
