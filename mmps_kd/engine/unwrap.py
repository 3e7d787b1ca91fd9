"""The model of a run without the wrapper that distributed training puts around it."""

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmps_kd.models.detectors import PersonSearchDistiller


def unwrapped_model(runner: Runner) -> nn.Module:
    """The runner's model."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def unwrapped_distiller(runner: Runner) -> PersonSearchDistiller | None:
    """The runner's model if it learns from teachers; None for a plain student."""
    model = unwrapped_model(runner)
    return model if isinstance(model, PersonSearchDistiller) else None
