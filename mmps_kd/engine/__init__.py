"""What runs around training and testing."""

from .hooks import *  # noqa: F403
from .loops import *  # noqa: F403
