"""A learned similarity of two ID vectors."""

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..utils.dist import average
from .reid_head import RoIBatchNorm


@MODELS.register_module()
class QSimNet(BaseModule):
    """Query-guided similarity (Munjal et al., CVPR 2019): (x - q)^2, batch norm, linear layer, two-way softmax.

    The linear layer starts with equal weights for all dimensions, so that training sets out from a Euclidean distance;
    that start is this project's choice. Always in fp32: squared differences of unit vectors are small.

    Args:
        feat_channels: Size D of the ID vectors.
        loss_weight: Factor of the loss.
    """

    def __init__(self, feat_channels: int, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.bn = RoIBatchNorm(feat_channels)
        self.fc = nn.Linear(feat_channels, 2)
        self.loss_weight = loss_weight

    def init_weights(self) -> None:
        """Start from a distance: the further apart, the less the same."""
        super().init_weights()
        size = self.fc.in_features**-0.5
        nn.init.constant_(self.fc.weight[0], size)
        nn.init.constant_(self.fc.weight[1], -size)
        nn.init.zeros_(self.fc.bias)

    def forward(self, embeddings: Tensor, queries: Tensor) -> Tensor:
        """Compare row by row.

        Args:
            embeddings: (N, D) of unit length.
            queries: (N, D), what each is compared with.

        Returns:
            (N, 2) logits: of different people, of the same person.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.fc(self.bn((embeddings.float() - queries.float()) ** 2))

    def similarity(self, embeddings: Tensor, queries: Tensor) -> Tensor:
        """Probability that two vectors are of the same person.

        Returns:
            (N,) float64 in 0..1; in float32 all who are very similar would be equal.
        """
        return self(embeddings, queries).double().softmax(dim=1)[:, 1]

    def loss(self, logits: Tensor, same: Tensor) -> dict[str, Tensor]:
        """Cross entropy, the mean over rows; 0 if there are none.

        Args:
            logits: (N, 2), as :meth:`forward` gives them.
            same: (N,) bool, whether a row is of the query's person.
        """
        losses = F.cross_entropy(logits, same.long(), reduction='none')
        return dict(loss_qsim=self.loss_weight * average(losses))
