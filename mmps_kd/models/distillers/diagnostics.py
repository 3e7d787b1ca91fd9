"""Diagnostics of a distilled training step: gradient norms of the losses and student-teacher distances."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Diagnostics:
    """What :class:`PersonSearchDistiller` is asked to measure in its next training step; it fills in the answers.

    Attributes:
        loss_scale: Factor of the losses while they are differentiated, taken out of the norms again: the one that
            training in fp16 uses, without which small gradients vanish.
        grad_norms: Of each loss, by the name that it is logged under: see :func:`gradient_norms`.
        distances: Of each distillation loss by its name, and of ``lut``: scalars, 0 where the student
            is its teacher, NaN where the batch has nothing to compare.
    """

    loss_scale: float = 1.0
    grad_norms: dict[str, Tensor] = field(default_factory=dict)
    distances: dict[str, Tensor] = field(default_factory=dict)


def gradient_norms(
    losses: dict[str, Tensor | list[Tensor]], features: Sequence[Tensor], loss_scale: float = 1.0
) -> dict[str, Tensor]:
    """L2 norm of each loss's gradient on the feature maps that the heads share.

    That is what a loss sends into the shared backbone. The graph is walked from the losses to the maps alone, and
    kept: parameters and their ``grad`` are not touched, nothing random is drawn.

    Args:
        losses: A model's losses as mmdet has them; values without ``loss`` in their name are left out.
        features: Maps (B, C, H, W) that the losses were computed from. Those of a frozen backbone have no gradient.
        loss_scale: See :class:`Diagnostics`.

    Returns:
        Scalars in fp32 by name; none if no map has a gradient.
    """
    features = [x for x in features if x.requires_grad]
    if not features:
        return {}
    terms = {name: value for name, value in losses.items() if 'loss' in name}
    norms = {}
    # As training does, backwards outside of autocast.
    with torch.autocast(features[0].device.type, enabled=False):
        for name, value in terms.items():
            term = loss_scale * (sum(value) if isinstance(value, list) else value)
            grads = torch.autograd.grad(term, features, retain_graph=True, allow_unused=True)
            # A loss need not reach a map that has a gradient: then it sends nothing.
            parts = [grad.float().norm() for grad in grads if grad is not None] or [torch.zeros_like(term)]
            norms[name] = torch.stack(parts).norm() / loss_scale
    return norms
