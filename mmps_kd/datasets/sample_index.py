"""What is drawn for a training sample depends on run seed, epoch and sample alone."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from mmps_kd.randomness import LOADING, streams_of


class SampleIndex(int):
    """A sample's position in the data set that knows the key of its random draws: ``(run seed, epoch)``.

    It takes the epoch to worker processes, which may live on from epoch to epoch.
    """

    key: tuple[int, ...]

    def __mod__(self, size: int) -> 'SampleIndex':
        """The position in a data set that ``RepeatDataset`` repeats; each repetition draws anew."""
        index = SampleIndex(int(self) % size)
        index.key = (*self.key, int(self))
        return index


def seeded_by_index(get_item: Callable[[Any, int], Any]) -> Callable[[Any, int], Any]:
    """Let a data set's ``__getitem__`` draw from a stream of the sample's own.

    Which process loads the sample, and what was loaded before, then makes no difference to its augmentation, and there
    is no state of worker processes that a resumed run would have to restore. A plain ``int`` draws from the global
    streams, as usual.
    """

    @wraps(get_item)
    def get(self: Any, idx: int) -> Any:
        if not isinstance(idx, SampleIndex):
            return get_item(self, idx)
        with streams_of(LOADING, *idx.key, int(idx)):
            return get_item(self, int(idx))

    return get
