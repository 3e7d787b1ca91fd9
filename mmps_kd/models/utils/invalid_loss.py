"""A loss that is not a number stops the step before it reaches the weights."""

from collections.abc import Sequence

import torch
from mmengine.dist import all_reduce
from torch import Tensor

from mmps_kd.errors import UserError


class NonFiniteLossError(UserError):
    """A loss of this batch is NaN or infinite.

    Args:
        what: Which loss, on which images.
    """

    def __init__(self, what: str) -> None:
        super().__init__(
            f'{what}: nothing was updated; look at the images, lower the learning rate, or leave such batches out by '
            "train_cfg.on_bad_loss='skip'"
        )
        self.what = what


def require_finite(losses: dict[str, Tensor | list[Tensor]], images: Sequence[str]) -> None:
    """Refuse losses that are NaN or infinite, on all ranks together, so that none waits for the others' gradients.

    It costs one look at the GPU's result in each step, before the backward pass.

    Args:
        losses: As a detector gives them; what has no 'loss' in its name is not looked at.
        images: Names of the batch's images, for the message.

    Raises:
        NonFiniteLossError: On every rank, if a loss of any rank is not finite; names the losses and images of the own.
    """
    names = [name for name in losses if 'loss' in name]
    values = [losses[name] if isinstance(losses[name], Tensor) else torch.stack(losses[name]) for name in names]
    sums = torch.stack([value.detach().float().sum() for value in values])
    any_bad = (~sums.isfinite()).any().int()
    all_reduce(any_bad, 'max')
    if not any_bad:
        return
    bad = [f'{name} is {value}' for name, value in zip(names, sums.tolist(), strict=True) if value - value != 0]
    raise NonFiniteLossError(
        f'{", ".join(bad)} on {", ".join(images)}' if bad else 'the loss of another process is not finite'
    )
