"""Mixed precision with bfloat16, on a CPU too."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmdet.registry import OPTIM_WRAPPERS
from mmengine.optim import OptimWrapper
from mmengine.runner import autocast
from torch import nn


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Runs forward passes under bfloat16 autocast.

    MMEngine's ``AmpOptimWrapper`` refuses to work without an accelerator, for the sake of its loss scale. bfloat16 has
    the range of fp32 and needs none.

    Args:
        **kwargs: As for MMEngine's ``OptimWrapper``.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast around a training step's forward pass."""
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield
