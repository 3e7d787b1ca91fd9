"""The normaliser that the losses over rows share."""

import torch
from torch import Tensor

from .ranks import mean_over_ranks


def average(losses: Tensor, avg_factor: float | Tensor | None = None) -> Tensor:
    """Sum of the rows' losses over their number, or over ``avg_factor`` where given; never over less than 1.

    In a distributed run the number is the mean over ranks, see :func:`mean_over_ranks`; so has ``avg_factor`` to be.

    Args:
        losses: (N,), N may be 0.
        avg_factor: Number, or scalar tensor.

    Returns:
        Scalar; 0 with a gradient of 0 if there are no rows.
    """
    if avg_factor is None:
        return losses.sum() / mean_over_ranks(len(losses), losses.device)
    return losses.sum() / torch.as_tensor(avg_factor).clamp(min=1)
