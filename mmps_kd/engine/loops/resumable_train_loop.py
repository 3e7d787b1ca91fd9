"""Training that can go on in the middle of an epoch."""

from mmdet.registry import LOOPS
from mmengine.dist import get_world_size
from mmengine.runner import EpochBasedTrainLoop

from mmps_kd.datasets.samplers import ResumableSampler
from mmps_kd.errors import UserError


@LOOPS.register_module()
class ResumableTrainLoop(EpochBasedTrainLoop):
    """MMEngine's loop over epochs that knows how much of an epoch is done.

    MMEngine counts epochs and iterations only, and begins the epoch again when it is resumed in the middle of one.
    Works together with :class:`ResumeHook`, which keeps the position in the checkpoint, and with
    :class:`ResumableSampler`; what was trained on is left out without being loaded.

    Args:
        **kwargs: As for ``EpochBasedTrainLoop``.

    Raises:
        UserError: If the loader has another sampler.
    """

    batches_done = 0
    """Batches of the current epoch that were trained on."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(self.dataloader.sampler, ResumableSampler):
            raise UserError(
                'ResumableTrainLoop cannot resume in the middle of an epoch with the sampler '
                f"{type(self.dataloader.sampler).__name__}: set train_dataloader.sampler.type='ResumableSampler', or "
                "train_cfg.type='EpochBasedTrainLoop' to resume at an epoch's end only"
            )

    @property
    def _batch_size(self) -> int:
        return self.dataloader.batch_sampler.batch_size

    def run_epoch(self) -> None:
        """Train on the batches of the epoch that are not done."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        self.dataloader.sampler.start = self.batches_done * self._batch_size
        for index, data_batch in enumerate(self.dataloader, self.batches_done):
            self.batches_done = index + 1
            self.run_iter(index, data_batch)
        self.batches_done = 0
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def position(self) -> dict[str, int]:
        """What a checkpoint keeps: the order's ``seed``, and the ``samples`` of the epoch done by all ranks."""
        samples = self.batches_done * self._batch_size * get_world_size()
        return dict(seed=self.dataloader.sampler.seed, samples=samples)

    def go_on_at(self, position: dict[str, int]) -> None:
        """Take up a :meth:`position`; number of ranks and batch size may have changed."""
        self.dataloader.sampler.seed = position['seed']
        self.batches_done = position['samples'] // (self._batch_size * get_world_size())
