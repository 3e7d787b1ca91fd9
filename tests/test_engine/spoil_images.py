"""A hook for the tests' configs: images that turn a step's losses into NaN."""

import math

import torch
from mmdet.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import Hook


@HOOKS.register_module()
class SpoilImages(Hook):
    """Fill the images of some iterations with NaN, on one rank."""

    def __init__(self, iterations, rank):
        self.iterations, self.rank = iterations, rank

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter in self.iterations and get_rank() == self.rank:
            data_batch['inputs'] = [torch.full_like(x, math.nan, dtype=torch.float32) for x in data_batch['inputs']]
