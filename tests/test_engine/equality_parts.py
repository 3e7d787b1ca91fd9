"""Parts that leave nothing to chance, so that runs on one and on two ranks can be compared."""

import json
from pathlib import Path

import torch
from mmdet.models.task_modules.samplers import BaseSampler
from mmdet.registry import DATA_SAMPLERS, HOOKS, TASK_UTILS
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import BatchSampler


@TASK_UTILS.register_module()
class FirstSampler(BaseSampler):
    """Takes the first candidates instead of random ones."""

    def _sample_pos(self, assign_result, num_expected, **kwargs):
        return torch.nonzero(assign_result.gt_inds > 0).flatten()[:num_expected]

    def _sample_neg(self, assign_result, num_expected, **kwargs):
        return torch.nonzero(assign_result.gt_inds == 0).flatten()[:num_expected]


@DATA_SAMPLERS.register_module()
class RankMajorBatches(BatchSampler):
    """The batches of one process, in the order in which two ranks hold the same samples."""

    def __iter__(self):
        for batch in super().__iter__():
            yield batch[0::2] + batch[1::2]


@HOOKS.register_module()
class FreezeNorms(Hook):
    """Statistics of a batch are not those of its halves."""

    def before_train_iter(self, runner, **kwargs):
        for module in runner.model.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


@HOOKS.register_module()
class RecordLosses(Hook):
    """Writes the state at the start, each iteration's losses of each rank, and how many people it saw."""

    def before_train(self, runner):
        self.lines = []
        torch.save(runner.model.state_dict(), Path(runner.work_dir, f'start{get_rank()}.pth'))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        pids = [sample.gt_instances.pids for sample in data_batch['data_samples']]
        counts = dict(people=sum(map(len, pids)), labelled=sum(int((p >= 0).sum()) for p in pids))
        losses = {name: float(value) for name, value in outputs.items()}
        self.lines.append(json.dumps({**losses, **counts}))

    def after_train(self, runner):
        Path(runner.work_dir, f'losses{get_rank()}.jsonl').write_text('\n'.join(self.lines))
