"""The normaliser that the losses over rows share."""

import torch
from torch import Tensor


def average(losses: Tensor, avg_factor: float | Tensor | None = None) -> Tensor:
    """Sum of the rows' losses over their number, or over ``avg_factor`` where given; never over less than 1.

    Args:
        losses: (N,), N may be 0.
        avg_factor: Number, or scalar tensor.

    Returns:
        Scalar; 0 with a gradient of 0 if there are no rows.
    """
    count = len(losses) if avg_factor is None else avg_factor
    return losses.sum() / torch.as_tensor(count).clamp(min=1)
