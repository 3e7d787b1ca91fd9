"""One vector for detection and identification: its length says whether, its direction says who."""

import torch.nn.functional as F
from mmdet.registry import MODELS
from mmdet.utils import ConfigType
from torch import Tensor

from ..losses.ranks import mean_over_ranks
from .reid_head import ReIDHead, RoIBatchNorm


@MODELS.register_module()
class NormAwareReIDHead(ReIDHead):
    """Norm-aware embedding (Chen et al., CVPR 2020).

    The RoI's vector ``v`` splits into its direction ``v / |v|``, the embedding, and its length ``|v|``, which batch
    norm brings to a logit of being a person.

    Args:
        in_channels: Channels C of the RoI features.
        loss_oim: Config of the :class:`OIMLoss` on the embeddings.
        loss_cls: Config of the binary loss on the logits.
        **kwargs: As for :class:`ReIDHead`.
    """

    def __init__(self, in_channels: int, loss_oim: ConfigType, loss_cls: ConfigType, **kwargs) -> None:
        super().__init__(in_channels, loss_oim, **kwargs)
        self.rescaler = RoIBatchNorm(1)
        self.loss_cls = MODELS.build(loss_cls)

    def embed_and_score(self, roi_feats: Tensor) -> tuple[Tensor, Tensor]:
        """Embed RoIs and score them.

        Args:
            roi_feats: (N, C, h, w).

        Returns:
            (N, D) embeddings of unit length and (N,) logits of being a person, both in fp32.
        """
        vectors = self.project(roi_feats)
        logits = self.rescaler(vectors.norm(dim=1, keepdim=True)).squeeze(1)
        return F.normalize(vectors, dim=1), logits

    def loss_score(self, logits: Tensor, is_person: Tensor) -> Tensor:
        """Binary classification loss of the logits, averaged over the RoIs.

        Args:
            logits: (N,).
            is_person: (N,) bool.

        Returns:
            Scalar, 0 if there is no RoI.
        """
        count = mean_over_ranks(len(logits), logits.device)
        return self.loss_cls(logits, is_person.long(), avg_factor=count)
