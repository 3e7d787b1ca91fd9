"""Samplers that can start in the middle of an epoch, for resuming."""

from collections.abc import Iterator
from itertools import islice

from mmdet.registry import DATA_SAMPLERS
from mmengine.config import ConfigDict
from mmengine.dataset import DefaultSampler
from torch.utils.data import BatchSampler, Sampler

from .base_person_search import SampleIndex


@DATA_SAMPLERS.register_module()
class ResumableSampler(DefaultSampler):
    """MMEngine's ``DefaultSampler`` that can start in the middle of an epoch.

    Its indices are :class:`SampleIndex`: the augmentation of a sample depends on run seed, epoch and sample alone.

    Args:
        **kwargs: As for ``DefaultSampler``.
    """

    start = 0
    """Samples of this rank to leave out at the epoch's beginning; :class:`ResumableTrainLoop` sets it."""

    def __iter__(self) -> Iterator[SampleIndex]:
        """Indices of this rank, without the first ``start``."""
        for position in list(super().__iter__())[self.start :]:
            index = SampleIndex(position)
            index.key = (self.seed, self.epoch)
            yield index


@DATA_SAMPLERS.register_module()
class ResumableBatchSampler(BatchSampler):
    """Another batch sampler, such as mmdet's ``AspectRatioBatchSampler``, that can start in the middle of an epoch.

    :class:`ResumableTrainLoop` puts it around the ``batch_sampler`` of a config. The other one forms all batches of the
    epoch, from the same order of samples each time, and the first ``start`` of them are left out without being loaded.

    Args:
        sampler: The order of the samples.
        batch_size: Samples in a batch.
        batch_sampler: Config of the other one; it gets ``sampler`` and ``batch_size``.
    """

    start = 0
    """Batches to leave out at the epoch's beginning; :class:`ResumableTrainLoop` sets it."""

    def __init__(self, sampler: Sampler | ResumableSampler, batch_size: int, batch_sampler: dict) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.batches = DATA_SAMPLERS.build(ConfigDict(batch_sampler, sampler=sampler, batch_size=batch_size))

    def __iter__(self) -> Iterator[list[int]]:
        """Batches of indices, without the first ``start``."""
        return islice(self.batches, self.start, None)

    def __len__(self) -> int:
        """Batches of the whole epoch."""
        return len(self.batches)
