"""mmdet's RPN, whose sampled anchors can be read."""

from dataclasses import dataclass

import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.models.utils import images_to_levels, multi_apply, unpack_gt_instances
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from torch import Tensor

from ..utils.dist import mean_over_ranks


@dataclass
class RPNOutputs:
    """The RPN's answer on a batch of B images, and which anchors it is trained on.

    Lists have one entry a level; n is the level's number of anchors in an image.

    Attributes:
        cls_scores: (B, A, H, W) objectness logits.
        bbox_preds: (B, 4 A, H, W) box deltas.
        anchors: (B, n, 4) x1, y1, x2, y2 in network input pixels.
        labels: (B, n) int64, 0 for person, 1 for background.
        label_weights: (B, n), above 0 for sampled anchors.
        bbox_targets: (B, n, 4) deltas to the assigned person.
        bbox_weights: (B, n, 4), above 0 for positive sampled anchors.
        avg_factor: Number of sampled anchors in the batch; mmdet counts one positive at least for each image. In a
            distributed run the mean over ranks.
        valid_flags: (B, n) bool, False for anchors of cells that are padding alone.
    """

    cls_scores: list[Tensor]
    bbox_preds: list[Tensor]
    anchors: list[Tensor]
    labels: list[Tensor]
    label_weights: list[Tensor]
    bbox_targets: list[Tensor]
    bbox_weights: list[Tensor]
    avg_factor: int | Tensor
    valid_flags: list[Tensor]


@MODELS.register_module()
class SampledRPNHead(RPNHead):
    """The RPN in two steps, sampling anchors and computing losses, so that a teacher can be run on the same anchors.

    Losses, proposals and random numbers are those of mmdet's ``RPNHead``.

    Args:
        start_level: First feature map that the RPN reads; those before it are for the RoI head alone.
        **kwargs: As for mmdet's ``RPNHead``.
    """

    def __init__(self, start_level: int = 0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.start_level = start_level

    def forward(self, x: tuple[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Logits and deltas, one tensor a level, of feature maps (B, C, H, W)."""
        return super().forward(x[self.start_level :])

    def forward_train(self, x: tuple[Tensor], batch_data_samples: SampleList) -> RPNOutputs:
        """Run the head and sample the anchors to train on.

        Args:
            x: Feature maps, each (B, C, H, W).
            batch_data_samples: Samples with ``gt_instances``; every person counts as class 0.
        """
        cls_scores, bbox_preds = self(x)
        return RPNOutputs(cls_scores, bbox_preds, *self.sample_anchors(cls_scores, batch_data_samples))

    def sample_anchors(self, cls_scores: list[Tensor], batch_data_samples: SampleList) -> tuple:
        """Assign the anchors of feature maps to people and sample those to train on.

        Returns:
            The fields of :class:`RPNOutputs` from ``anchors`` on; ``labels`` are those of the assigned people.
        """
        gt_instances, gt_ignore, metas = unpack_gt_instances(batch_data_samples)
        sizes = [scores.shape[-2:] for scores in cls_scores]
        anchors, valid_flags = self.get_anchors(sizes, metas, device=cls_scores[0].device)
        num_anchors = [len(level) for level in anchors[0]]
        by_level = images_to_levels([torch.cat(levels) for levels in anchors], num_anchors)
        valid_by_level = images_to_levels([torch.cat(levels) for levels in valid_flags], num_anchors)
        *targets, count = self.get_targets(
            anchors, valid_flags, gt_instances, metas, batch_gt_instances_ignore=gt_ignore
        )
        return by_level, *targets, mean_over_ranks(count, cls_scores[0].device), valid_by_level

    def predict_by_feat(self, cls_scores: list[Tensor], bbox_preds: list[Tensor], **kwargs) -> InstanceList:
        """Proposals, as mmdet's; scored and ranked in fp32 also under autocast, where near 1 few scores differ.

        Args:
            cls_scores: (B, A, H, W) logits, one a level.
            bbox_preds: (B, 4 A, H, W) deltas, one a level.
            **kwargs: As for mmdet's ``RPNHead``.
        """
        scores, deltas = [level.float() for level in cls_scores], [level.float() for level in bbox_preds]
        return super().predict_by_feat(scores, deltas, **kwargs)

    def loss_by_outputs(self, outputs: RPNOutputs) -> dict[str, list[Tensor]]:
        """Losses of the sampled anchors, one a level."""
        losses_cls, losses_bbox = multi_apply(
            self.loss_by_feat_single,
            outputs.cls_scores,
            outputs.bbox_preds,
            outputs.anchors,
            outputs.labels,
            outputs.label_weights,
            outputs.bbox_targets,
            outputs.bbox_weights,
            avg_factor=outputs.avg_factor,
        )
        return dict(loss_rpn_cls=losses_cls, loss_rpn_bbox=losses_bbox)
