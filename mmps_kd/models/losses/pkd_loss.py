"""PKD: imitation of features up to the scale and shift of each channel."""

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class PKDLoss(nn.Module):
    r"""Half the mean squared error of standardised feature maps (Cao et al., NeurIPS 2022).

    Each channel is brought to mean 0 and deviation 1 over batch and space, :math:`\hat F = (F - \mu) / (\sigma +
    \epsilon)` with the unbiased deviation and :math:`\epsilon = 10^{-6}`, as in mmrazor. The loss :math:`\frac{1}{2}
    \mathrm{mean} (\hat S - \hat T)^2` is then 1 minus the Pearson correlation, averaged over channels, times
    :math:`(N - 1) / N` of N cells.

    Args:
        loss_weight: Factor of the loss; 6 for two-stage detectors in the paper.
    """

    def __init__(self, loss_weight: float = 6.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            student: (B, C, H, W), adapted.
            teacher: (B, C, H, W), gets no gradient.

        Returns:
            Scalar loss in fp32.
        """
        difference = standardise(student.float()) - standardise(teacher.detach().float())
        return self.loss_weight * difference.square().mean() / 2


def standardise(features: Tensor) -> Tensor:
    """Bring each channel of (B, C, H, W) to mean 0 and deviation 1 over batch and space."""
    std, mean = torch.std_mean(features, dim=(0, 2, 3), keepdim=True)
    return (features - mean) / (std + 1e-6)
