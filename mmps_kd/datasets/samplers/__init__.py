"""Orders in which training samples are read."""

from .resumable_sampler import ResumableSampler

__all__ = ['ResumableSampler']
