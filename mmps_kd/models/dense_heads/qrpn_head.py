"""Region proposals for the query."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, SampleList
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn


@dataclass
class QRPNOutputs:
    """The query-guided objectness of B pairs, and the anchors it is trained on; fields as in :class:`RPNOutputs`.

    Attributes:
        cls_scores: (B, A, H, W) logits, one a level.
        labels: (B, n) int64, one a level, 0 for anchors on the query's person, 1 for all others.
        label_weights: (B, n), one a level, above 0 for sampled anchors.
        avg_factor: Number of sampled anchors; in a distributed run the mean over ranks.
    """

    cls_scores: list[Tensor]
    labels: list[Tensor]
    label_weights: list[Tensor]
    avg_factor: int | Tensor


@MODELS.register_module()
class QRPN(BaseModule):
    """Query-guided region proposals (Munjal et al., CVPR 2019).

    The query's pooled RoI feature gives weights for the channels of the gallery's feature map, and a small head on the
    re-weighted map gives a second objectness. Its logits are added to those of the plain RPN before proposals are
    chosen.

    Args:
        in_channels: Channels C of the feature map.
        num_anchors: Anchors A of a cell.
        ratio: The excitation's bottleneck has C / ``ratio`` channels, one at least.
        feat_channels: Channels after the 3x3 convolution.
        loss_weight: Factor of the loss.
        init_cfg: Initialisation of the convolutions, by default the RPN's.
    """

    def __init__(
        self,
        in_channels: int,
        num_anchors: int,
        ratio: int = 16,
        feat_channels: int = 256,
        loss_weight: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg or dict(type='Normal', layer='Conv2d', std=0.01))
        hidden = max(in_channels // ratio, 1)
        self.squeeze = nn.Linear(in_channels, hidden)
        self.excite = nn.Linear(hidden, in_channels)
        self.conv = nn.Conv2d(in_channels, feat_channels, 3, padding=1)
        self.cls = nn.Conv2d(feat_channels, num_anchors, 1)
        self.loss_weight = loss_weight

    def forward(self, x: tuple[Tensor, ...], vectors: Tensor) -> list[Tensor]:
        """Objectness of each anchor, given the query.

        Args:
            x: Gallery feature maps, each (B, C, H, W), or (1, C, H, W) for B queries and one gallery image.
            vectors: (B, C), the queries' RoI features, mean over their cells.

        Returns:
            (B, A, H, W) logits, one a level.
        """
        weights = self.excite(self.squeeze(vectors).relu()).sigmoid()[:, :, None, None]
        return [self.cls(self.conv(level * weights).relu()) for level in x]

    def loss(self, outputs: QRPNOutputs) -> dict[str, Tensor]:
        """Binary cross entropy of the sampled anchors."""
        logits = torch.cat([level.permute(0, 2, 3, 1).flatten(1) for level in outputs.cls_scores], dim=1)
        target, weight = (torch.cat(values, dim=1) for values in (outputs.labels, outputs.label_weights))
        total = F.binary_cross_entropy_with_logits(logits.float(), (target == 0).float(), weight, reduction='sum')
        return dict(loss_qrpn=self.loss_weight * total / outputs.avg_factor)


def mark_queries(samples: SampleList, pids: Tensor) -> SampleList:
    """The samples with class 0 for the query's person and 1, the RPN's background, for all others.

    Args:
        samples: B samples with ``gt_instances``.
        pids: (B,) int64, whom each image is searched for.
    """
    marked = []
    for sample, pid in zip(samples, pids, strict=True):
        people = sample.gt_instances
        labels = (people.pids != pid).long()
        instances = InstanceData(bboxes=people.bboxes, labels=labels)
        marked.append(DetDataSample(metainfo=sample.metainfo, gt_instances=instances))
    return marked
