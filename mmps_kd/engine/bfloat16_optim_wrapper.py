"""Mixed precision with bfloat16, on a CPU too."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmdet.registry import OPTIM_WRAPPERS
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.runner import autocast
from torch import nn

from mmps_kd.compat import cpu_has_bfloat16


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Runs forward passes under bfloat16 autocast.

    MMEngine's ``AmpOptimWrapper`` refuses to work without an accelerator, for the sake of its loss scale. bfloat16 has
    the range of fp32 and needs none.

    A processor without instructions for bfloat16 trains in fp32, with a warning: bfloat16 would take tens of times as
    long.

    Args:
        **kwargs: As for MMEngine's ``OptimWrapper``.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.enabled = get_device() != 'cpu' or cpu_has_bfloat16()
        if not self.enabled:
            MMLogger.get_current_instance().warning(
                'training in fp32: this processor has no instructions for bfloat16, which would take far longer'
            )

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast around a training step's forward pass."""
        with super().optim_context(model), autocast(dtype=torch.bfloat16, enabled=self.enabled):
            yield
