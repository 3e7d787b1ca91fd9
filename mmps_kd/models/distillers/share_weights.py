"""Loss weights from shares of the gradient, so that they need no search."""

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from mmps_kd.errors import UserError

from ..utils.counter import Counter
from .diagnostics import gradient_norms

INTERVAL = 20
MOMENTUM = 0.8
# Small gradients in fp16 need a scale on their way back; it is taken out again.
SCALE = 1024.0


def parse_share(loss_weight: float | str) -> float | None:
    """The share that ``loss_weight='share:0.1'`` asks for; None of a plain weight.

    Raises:
        UserError: If it is no number above 0 and below 1.
    """
    if not isinstance(loss_weight, str):
        return None
    kind, _, number = loss_weight.partition(':')
    try:
        share = float(number)
    except ValueError:
        share = 0
    if kind != 'share' or not 0 < share < 1:
        raise UserError(f"loss_weight='{loss_weight}': write a number, or 'share:' and a number above 0 and below 1")
    return share


class ShareWeights(nn.Module):
    r"""Scales losses so that each has a given share of the gradients on the shared feature maps.

    With :math:`g_k` the L2 norm of the gradient of loss k before scaling and :math:`G` the sum of the norms of all
    losses without a share, loss k is multiplied by :math:`w_k = \frac{s_k}{1 - \sum_j s_j} \cdot \frac{G}{g_k}`: then
    :math:`w_k g_k` is the share :math:`s_k` of the sum over all losses. Norms are measured in the first training step
    and in each 20th after it, averaged over ranks, and :math:`g_k` and :math:`G` are running means with momentum 0.8:
    a loss that is 0 in most steps, as the bounded regression is, gets its share in the mean and no large weight for
    the others. The weight of a loss that never had a gradient is 0. A loss that cannot have one there, because the maps
    that it is computed from are frozen, is refused in the first step.

    Running means and the number of steps are in the checkpoint.

    Args:
        shares: Share by name of the loss, above 0.

    Raises:
        UserError: If the shares leave nothing for the student's own losses.
    """

    norms: Tensor

    def __init__(self, shares: dict[str, float]) -> None:
        super().__init__()
        if sum(shares.values()) >= 1:
            total = sum(shares.values())
            raise UserError(f'the shares of {", ".join(shares)} are {total:g} together: keep them below 1')
        self.shares, self.steps = shares, Counter()
        self.register_buffer('norms', torch.zeros(len(shares) + 1))  # those with a share, then the sum of the others

    @property
    def weights(self) -> Tensor:
        """(K,) factor of each loss with a share."""
        shares = self.norms.new_tensor(list(self.shares.values()))
        found = shares / (1 - shares.sum()) * self.norms[-1] / self.norms[:-1]
        return found.nan_to_num(posinf=0.0)

    def forward(self, losses: dict[str, Tensor | list[Tensor]], features: tuple[Tensor, ...]) -> dict:
        """The losses, those with a share scaled.

        Args:
            losses: A model's losses by name.
            features: Maps (B, C, H, W) that the losses were computed from.
        """
        if self.steps.value % INTERVAL == 0:
            self._measure(losses, features)
        self.steps.value += 1
        return losses | {name: weight * losses[name] for name, weight in zip(self.shares, self.weights, strict=True)}

    def _measure(self, losses: dict, features: tuple[Tensor, ...]) -> None:
        norms = gradient_norms(losses, features, SCALE)
        if not norms:
            raise UserError("loss_weight='share:...' needs feature maps with a gradient, and these are all frozen")
        if self.steps.value == 0:
            trained = [x for x in features if x.requires_grad]
            for name, share in self.shares.items():
                grads = torch.autograd.grad(losses[name], trained, retain_graph=True, allow_unused=True)
                if all(grad is None for grad in grads):
                    raise UserError(
                        f'{name} reaches none of the feature maps that are trained, so it cannot have a share of their '
                        f"gradient: give its loss_weight a number in place of 'share:{share:g}'"
                    )
        own = torch.stack([norms[name] for name in self.shares])
        others = torch.stack([norm for name, norm in norms.items() if name not in self.shares]).sum()
        measured = torch.cat([own, others[None]])
        all_reduce(measured, op='mean')
        first = self.steps.value == 0
        self.norms.copy_(measured if first else MOMENTUM * self.norms + (1 - MOMENTUM) * measured)
