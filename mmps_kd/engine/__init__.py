"""What runs around training."""

from .hooks import *  # noqa: F403
