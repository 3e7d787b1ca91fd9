"""The order of an epoch, from any place in it."""

from collections.abc import Iterator

from mmdet.registry import DATA_SAMPLERS
from mmengine.dataset import DefaultSampler

from mmps_kd.datasets.sample_index import SampleIndex


@DATA_SAMPLERS.register_module()
class ResumableSampler(DefaultSampler):
    """MMEngine's ``DefaultSampler`` that can start in the middle of an epoch, and tells each sample what to draw.

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
