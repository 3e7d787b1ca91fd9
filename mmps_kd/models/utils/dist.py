"""Rows, counts and averages over all ranks of a distributed run."""

import torch
from mmengine.dist import all_gather, all_reduce, get_world_size
from torch import Tensor


def gather_rows(rows: Tensor) -> Tensor:
    """Join the rows of all ranks, which may differ in number, in rank order; without gradient.

    Args:
        rows: (N, ...), N may be 0.

    Returns:
        (sum of N, ...), the same on every rank.
    """
    if get_world_size() == 1:
        return rows
    counts = torch.cat(all_gather(torch.tensor([len(rows)], device=rows.device))).tolist()
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows.detach()
    return torch.cat([part[:count] for part, count in zip(all_gather(padded), counts, strict=True)])


def mean_over_ranks(count: int | Tensor, device: torch.device) -> Tensor:
    """Mean of a count over all ranks, as normaliser of a loss; no rows on any rank count as one.

    Gradients are averaged over ranks: a rank's sum over the mean count makes the sum over all ranks' rows divided by
    their number, as if one process had all rows. Every rank has to call it, also those without rows.

    Args:
        count: Number of rows on this rank.
        device: Where the ranks' counts meet.

    Returns:
        Scalar, above 0.
    """
    if get_world_size() == 1:
        return torch.as_tensor(count).clamp(min=1)
    total = torch.as_tensor(count, device=device).clone()
    all_reduce(total)
    return total.clamp(min=1) / get_world_size()


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
