"""Correlation distillation of embeddings."""

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from ..utils.dist import average


@MODELS.register_module()
class CorrelationLoss(nn.Module):
    r"""Squared error between the similarity matrices of the student's and of the teacher's embeddings.

    The part CD of DDPS (TMM 2025): with unit vectors :math:`x_i` of the student and :math:`v_i` of the teacher, the
    mean of :math:`(x_i \cdot x_j - v_i \cdot v_j)^2` over all pairs. DDPS takes the people of a batch that are left
    after an NMS of 0.7 on their probability under OIM; here all positive RoIs count.

    Args:
        loss_weight: Factor of the loss; 0.01 in DDPS' public configs.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, embeddings: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compute the mean over the pairs.

        Args:
            embeddings: (P, D), unit length; P may be 0.
            targets: (P, D'), unit length, the teacher's vectors; get no gradient.
            weight: (P,), factor of each row's pairs.

        Returns:
            Scalar loss in fp32, 0 if there are no people.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            own, taught = embeddings.float(), targets.detach().float()
            losses = (own @ own.t() - taught @ taught.t()).square().sum(dim=1) / max(len(own), 1)
            return self.loss_weight * average(losses if weight is None else losses * weight)
