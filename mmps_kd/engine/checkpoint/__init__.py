"""Checkpoint files: written whole or not at all, and found again."""

from .atomic import ATOMIC_BACKEND, AtomicBackend, require_writable, write_atomically
from .newest import checkpoints_by_age, is_whole, newest_checkpoint
from .save import save_checkpoint

__all__ = [
    'ATOMIC_BACKEND',
    'AtomicBackend',
    'checkpoints_by_age',
    'is_whole',
    'newest_checkpoint',
    'require_writable',
    'save_checkpoint',
    'write_atomically',
]
