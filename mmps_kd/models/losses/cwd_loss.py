"""CWD: where each channel of the teacher's features is high."""

import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class CWDLoss(nn.Module):
    r"""Channel-wise distillation (Shu et al., ICCV 2021).

    Each channel is a distribution over space, :math:`\phi(F_c) = \mathrm{softmax}_{hw}(F_c / T)`; the loss is
    :math:`\frac{T^2}{C B} \sum_{bc} \mathrm{KL}(\phi(T_c) \| \phi(S_c))`.

    Args:
        temperature: T > 0; 1 for detectors in the published code.
        loss_weight: Factor of the loss; 10 a level for Faster R-CNN there.
    """

    def __init__(self, temperature: float = 1.0, loss_weight: float = 10.0) -> None:
        super().__init__()
        self.temperature = temperature
        self.loss_weight = loss_weight

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            student: (B, C, H, W), adapted.
            teacher: (B, C, H, W), gets no gradient.

        Returns:
            Scalar loss in fp32.
        """
        own, taught = (
            F.log_softmax(maps.float().flatten(2) / self.temperature, dim=2) for maps in (student, teacher.detach())
        )
        divergence = (taught.exp() * (taught - own)).sum(dim=2)
        return self.loss_weight * self.temperature**2 * divergence.mean()

    def extra_repr(self) -> str:
        """The temperature, for the printed objective."""
        return f'temperature={self.temperature}'
