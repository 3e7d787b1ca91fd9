"""Re-identification heads on RoI features: embedding, and norm-aware embedding."""

import math

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, OptMultiConfig
from mmengine.model import BaseModule
from mmengine.utils import to_2tuple
from torch import Tensor, nn

from ..utils.dist import mean_over_ranks


@MODELS.register_module()
class ReIDHead(BaseModule):
    """Identity embedding of an RoI: pooling, one linear layer, unit length (Xiao et al., CVPR 2017).

    Args:
        in_channels: Channels C of the RoI features.
        loss_oim: Config of the :class:`OIMLoss`; its ``feat_channels`` is set from here unless given.
        feat_channels: Embedding size D.
        num_convs: 3x3 convolutions with batch norm on the RoI features, for detectors without a shared head.
        with_avg_pool: Average over the RoI's cells; otherwise all cells go into the linear layer.
        roi_feat_size: Height and width of the RoI features (one number if equal), used without pooling.
        with_bn: Batch norm on the embedding before it is brought to unit length, as NAE and SeqNet have it.
        init_cfg: Initialisation of the linear layer.
    """

    def __init__(
        self,
        in_channels: int,
        loss_oim: ConfigType,
        feat_channels: int = 256,
        num_convs: int = 0,
        with_avg_pool: bool = True,
        roi_feat_size: int | tuple[int, int] = 7,
        with_bn: bool = False,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        if init_cfg is None:
            init_cfg = dict(type='Normal', layer='Linear', std=0.01)
        super().__init__(init_cfg=init_cfg)
        self.with_avg_pool = with_avg_pool
        conv = dict(kernel_size=3, padding=1, norm_cfg=dict(type='BN'))
        self.convs = nn.Sequential(*(ConvModule(in_channels, in_channels, **conv) for _ in range(num_convs)))
        num_cells = 1 if with_avg_pool else math.prod(to_2tuple(roi_feat_size))
        self.fc = nn.Linear(in_channels * num_cells, feat_channels)
        self.bn = RoIBatchNorm(feat_channels) if with_bn else nn.Identity()
        self.loss_oim = MODELS.build({'feat_channels': feat_channels, **loss_oim})

    def forward(self, roi_feats: Tensor) -> Tensor:
        """Embed RoIs.

        Args:
            roi_feats: (N, C, h, w).

        Returns:
            (N, D) embeddings of unit length, in fp32.
        """
        return F.normalize(self.project(roi_feats), dim=1)

    def project(self, roi_feats: Tensor) -> Tensor:
        """Map RoIs (N, C, h, w) to vectors (N, D) whose direction is the embedding, in fp32."""
        feats = self.convs(roi_feats)
        feats = feats.mean(dim=(2, 3)) if self.with_avg_pool else feats.flatten(1)
        return self.bn(self.fc(feats)).float()

    def loss(self, embeddings: Tensor, pids: Tensor) -> dict[str, Tensor]:
        """OIM loss of the RoIs that hold a person.

        Args:
            embeddings: (N, D) of positive RoIs.
            pids: (N,) int64 identity of the assigned person, -1 unlabelled.
        """
        return dict(loss_oim=self.loss_oim(embeddings, pids))


class RoIBatchNorm(nn.BatchNorm1d):
    """Batch norm over a varying number of RoIs: fewer than two have no statistics and use the running ones."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, D)."""
        if not self.training or len(x) > 1:
            return super().forward(x)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


@MODELS.register_module()
class BNLinear(nn.Sequential):
    """Linear layer and batch norm: ``reg_predictor_cfg`` of the published second box regression.

    Args:
        in_features: Size of the input.
        out_features: Size of the output.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(nn.Linear(in_features, out_features), RoIBatchNorm(out_features))


@MODELS.register_module()
class NormAwareReIDHead(ReIDHead):
    """Norm-aware embedding (Chen et al., CVPR 2020).

    The RoI's vector ``v`` splits into its direction ``v / |v|``, the embedding, and its length ``|v|``, which batch
    norm brings to a logit of being a person.

    Args:
        in_channels: Channels C of the RoI features.
        loss_oim: Config of the :class:`OIMLoss` on the embeddings.
        loss_cls: Config of the binary loss on the logits.
        feat_channels: Embedding size D.
        before_channels: Channels of the features before conv5, which come first in the RoI features (C in all, one
            cell, see :class:`MaxPoolResLayer`): a second branch turns them into the first half of the vector, as
            published. None: one branch.
        **kwargs: As for :class:`ReIDHead`.
    """

    def __init__(
        self,
        in_channels: int,
        loss_oim: ConfigType,
        loss_cls: ConfigType,
        feat_channels: int = 256,
        before_channels: int | None = None,
        **kwargs,
    ) -> None:
        branch_channels = feat_channels if before_channels is None else feat_channels // 2
        loss_oim = {'feat_channels': feat_channels, **loss_oim}
        super().__init__(in_channels - (before_channels or 0), loss_oim, branch_channels, **kwargs)
        self.before_channels = before_channels
        if before_channels is not None:
            self.before = nn.Sequential(nn.Linear(before_channels, branch_channels), RoIBatchNorm(branch_channels))
        self.rescaler = RoIBatchNorm(1)
        self.loss_cls = MODELS.build(loss_cls)

    def project(self, roi_feats: Tensor) -> Tensor:
        """Map RoIs (N, C, h, w) to vectors (N, D), in fp32; with two branches h and w are 1."""
        if self.before_channels is None:
            return super().project(roi_feats)
        before, after = roi_feats[:, : self.before_channels], roi_feats[:, self.before_channels :]
        return torch.cat([self.before(before.flatten(1)).float(), super().project(after)], dim=1)

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
