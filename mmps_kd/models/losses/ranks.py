"""Rows from all ranks of a distributed run."""

import torch
from mmengine.dist import all_gather, get_world_size
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
