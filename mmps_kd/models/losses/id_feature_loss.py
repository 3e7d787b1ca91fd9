"""Direct regression of embeddings to the rows of a teacher's table."""

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from mmps_kd.errors import check_choice

from ..utils.dist import average


@MODELS.register_module()
class IDFeatureLoss(nn.Module):
    r"""Distance between the embeddings of people and their rows in a teacher's table, of identities or of boxes.

    Embedding :math:`x` with row :math:`v` costs :math:`\|x - v\|^2` (``l2``) or :math:`1 - x \cdot v` (``cosine``),
    for unit vectors half of the former. Unlike the OIM loss it knows no other identities.

    Args:
        distance: ``l2`` or ``cosine``.
        loss_weight: Factor of the loss.

    Raises:
        UserError: If ``distance`` does not exist.
    """

    def __init__(self, distance: str = 'l2', loss_weight: float = 1.0) -> None:
        super().__init__()
        check_choice('distance', distance, ['l2', 'cosine'])
        self.distance = distance
        self.loss_weight = loss_weight

    def forward(self, embeddings: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compute the mean over people.

        Args:
            embeddings: (P, D), unit length; P may be 0.
            targets: (P, D), unit length, each embedding's row of the table; gets no gradient.
            weight: (P,), factor of each.

        Returns:
            Scalar loss in fp32, 0 if there are no people.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings, targets = embeddings.float(), targets.detach().float()
            if self.distance == 'l2':
                losses = (embeddings - targets).square().sum(dim=1)
            else:
                losses = 1 - (embeddings * targets).sum(dim=1)
            return self.loss_weight * average(losses if weight is None else losses * weight)

    def extra_repr(self) -> str:
        """The distance, for the printed objective."""
        return self.distance
