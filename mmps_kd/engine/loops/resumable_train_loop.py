"""Training that can be resumed in the middle of an epoch."""

from mmdet.registry import LOOPS
from mmengine.dist import get_world_size
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import BatchSampler, DataLoader

from mmps_kd.datasets.samplers import ResumableBatchSampler, ResumableSampler
from mmps_kd.errors import UserError, check_choice
from mmps_kd.models.utils.invalid_loss import NonFiniteLossError

from ..unwrap import unwrapped_model

SKIPS_IN_A_ROW = 10
"""So many batches in a row whose loss is not finite stop the run: the cause is not a single batch."""


@LOOPS.register_module()
class ResumableTrainLoop(EpochBasedTrainLoop):
    """MMEngine's loop over epochs that knows how much of an epoch is done.

    MMEngine counts epochs and iterations only, and begins the epoch again when it is resumed in the middle of one.
    Works together with :class:`ResumeHook`, which keeps the position in the checkpoint, and with
    :class:`ResumableSampler`; what was trained on is left out without being loaded.

    Args:
        on_bad_loss: What a batch does whose loss is not finite: ``'stop'`` the run, or ``'skip'`` the batch on all
            ranks, with a warning, leaving weights, buffers and optimizer as they were; the tenth such batch in a row
            stops the run.
        **kwargs: As for ``EpochBasedTrainLoop``.

    Raises:
        UserError: If the loader has another sampler, or ``on_bad_loss`` is unknown.

    A ``batch_sampler`` of the config, such as mmdet's ``AspectRatioBatchSampler``, is put into a
    :class:`ResumableBatchSampler`.
    """

    batches_done = 0
    """Batches of the current epoch that were trained on."""
    skipped = 0
    """Batches skipped since the last one that was trained on."""

    def __init__(
        self, runner: Runner, dataloader: DataLoader | dict, *args, on_bad_loss: str = 'stop', **kwargs
    ) -> None:
        if isinstance(dataloader, dict) and dataloader.get('batch_sampler') is not None:
            batches = dict(type=ResumableBatchSampler, batch_sampler=dataloader['batch_sampler'])
            dataloader = {**dataloader, 'batch_sampler': batches}
        super().__init__(runner, dataloader, *args, **kwargs)
        check_choice('on_bad_loss', on_bad_loss, ('stop', 'skip'))
        self.on_bad_loss = on_bad_loss
        batches = self.dataloader.batch_sampler
        self.reorders = isinstance(batches, ResumableBatchSampler)
        """Whether a batch sampler changes the order of the samples."""
        if type(batches) is not BatchSampler and not self.reorders:
            raise UserError(
                f'ResumableTrainLoop cannot resume in the middle of an epoch with a ready {type(batches).__name__}: '
                'give train_dataloader as a config'
            )
        if not isinstance(batches.sampler, ResumableSampler):
            raise UserError(
                'ResumableTrainLoop cannot resume in the middle of an epoch with the sampler '
                f"{type(batches.sampler).__name__}: set train_dataloader.sampler.type='ResumableSampler', or "
                "train_cfg.type='EpochBasedTrainLoop' to resume at an epoch's end only"
            )

    @property
    def _batch_size(self) -> int:
        return self.dataloader.batch_sampler.batch_size

    @property
    def _sampler(self) -> ResumableSampler:
        return self.dataloader.batch_sampler.sampler

    def run_epoch(self) -> None:
        """Train on the batches of the epoch that are not done."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        if self.reorders:
            self.dataloader.batch_sampler.start = self.batches_done
        else:
            self._sampler.start = self.batches_done * self._batch_size
        for index, data_batch in enumerate(self.dataloader, self.batches_done):
            self.batches_done = index + 1
            self.run_iter(index, data_batch)
        self.batches_done = 0
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: dict) -> None:
        """Train on a batch.

        Raises:
            NonFiniteLossError: If its loss is not finite and such batches are not to be skipped.
            UserError: If too many were skipped in a row.
        """
        if self.on_bad_loss == 'stop':
            super().run_iter(idx, data_batch)
            return
        buffers = dict(unwrapped_model(self.runner).named_buffers())
        before = {name: buffer.clone() for name, buffer in buffers.items()}
        try:
            super().run_iter(idx, data_batch)
            self.skipped = 0
        except NonFiniteLossError as error:
            self._skip(error.what)
            for name, buffer in buffers.items():
                buffer.copy_(before[name])
            self.runner.call_hook('after_train_iter', batch_idx=idx, data_batch=data_batch, outputs=None)
            self._iter += 1

    def _skip(self, what: str) -> None:
        self.skipped += 1
        if self.skipped == SKIPS_IN_A_ROW:
            raise UserError(
                f'{what}, the {SKIPS_IN_A_ROW}th such batch in a row: it is not the images; go on from an earlier '
                'checkpoint with a lower learning rate'
            )
        self.runner.logger.warning(f'iteration {self.iter + 1} skipped: {what}')

    def position(self) -> dict[str, int]:
        """What a checkpoint keeps: the order's ``seed``, and the ``samples`` of the epoch done by all ranks."""
        samples = self.batches_done * self._batch_size * get_world_size()
        return dict(seed=self._sampler.seed, samples=samples)

    def resume_from(self, position: dict[str, int]) -> None:
        """Continue at a :meth:`position`.

        Number of ranks and batch size may have changed, unless a batch sampler :attr:`reorders`.
        """
        self._sampler.seed = position['seed']
        self.batches_done = position['samples'] // (self._batch_size * get_world_size())
