"""Orders in which training samples are read."""

from .resumable_batch_sampler import ResumableBatchSampler
from .resumable_sampler import ResumableSampler

__all__ = ['ResumableBatchSampler', 'ResumableSampler']
