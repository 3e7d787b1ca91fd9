"""What a run with a teacher's look-up table needs around training."""

import logging

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmps_kd.datasets import boxes_sha256
from mmps_kd.models.distillers import LUTDistiller

from ..unwrap import unwrapped_model


@HOOKS.register_module()
class LUTHook(Hook):
    """Compare the teacher's table with the training set before the first iteration, and thaw it when it is time.

    Weights that a run starts from (``load_from``) bring a table of their own, which is replaced by the teacher's; a
    resumed run keeps the one of its checkpoint, with a warning if it is another teacher's, unless it is empty.

    Works on the model's ``lut_distiller`` and ``box_lut``; does nothing where there is none.
    """

    def before_train(self, runner: Runner) -> None:
        """Check the table, and put it in place where training starts.

        Raises:
            UserError: If it was made for another dataset, other identities or another dimension.
        """
        boxes = getattr(unwrapped_model(runner), 'box_lut', None)
        if boxes is not None:
            dataset = runner.train_dataloader.dataset
            boxes.check(dataset.metainfo['dataset_name'], *boxes_sha256(dataset))
        distiller = _distiller(runner)
        if distiller is not None:
            distiller.check(runner.train_dataloader.dataset.metainfo)
            distiller.set_epoch(runner.iter // len(runner.train_dataloader))
            oim = distiller.oim_loss
            if runner.iter == 0 or not oim.lut.any():
                distiller.fill()
            elif not oim.update_lut and not torch.allclose(oim.lut.cpu(), distiller.table.rows):
                message = f'the run goes on with the table of its checkpoint, which is not {distiller.table.file}'
                print_log(f'{message}: to train with the latter, start a new run', 'current', logging.WARNING)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Freeze or thaw; the epoch is derived from the iteration, for loops that count no epochs too."""
        distiller = _distiller(runner)
        if distiller is not None:
            distiller.set_epoch(runner.iter // len(runner.train_dataloader))


def _distiller(runner: Runner) -> LUTDistiller | None:
    return getattr(unwrapped_model(runner), 'lut_distiller', None)
