"""The batches of an epoch, from any of them on."""

from collections.abc import Iterator
from itertools import islice

from mmdet.registry import DATA_SAMPLERS
from mmengine.config import ConfigDict
from torch.utils.data import BatchSampler, Sampler

from .resumable_sampler import ResumableSampler


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
