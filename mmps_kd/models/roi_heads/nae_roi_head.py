"""Detection by the norm of the embedding."""

import torch
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from torch import Tensor

from .reid_roi_head import ReIDRoIHead, RoIOutputs, assigned_people, positive_rois


@MODELS.register_module()
class NAERoIHead(ReIDRoIHead):
    """The head of NAE (Chen et al., CVPR 2020): the norm of an RoI's vector says whether it is a person.

    Args:
        **kwargs: As for :class:`ReIDRoIHead`; ``reid_head`` is a :class:`NormAwareReIDHead`, whose own ``loss_cls`` is
            not used: the loss is that of ``bbox_head``, which has ``with_cls=False``.
    """

    def forward_train(
        self, x: tuple[Tensor], sampling_results: list[SamplingResult], batch_data_samples: SampleList
    ) -> RoIOutputs:
        """Run the head on the sampled RoIs; all of them, not only the positive ones, enter its batch norm."""
        detected, answer = self.forward_boxes(x, sampling_results)
        embeddings = answer['embeddings'][positive_rois(sampling_results)]
        people = assigned_people(sampling_results, batch_data_samples)
        return RoIOutputs(**detected, embeddings=embeddings, **people)

    def _bbox_forward(self, x: tuple[Tensor], rois: Tensor) -> dict[str, Tensor]:
        feats = self.extract_reid_feats(x, rois)
        _, bbox_pred = self.bbox_head(feats[:, -self.bbox_head.in_channels :])
        embeddings, logits = self.reid_head.embed_and_score(feats)
        # The softmax of (logit, 0) is the logit's sigmoid: cross entropy and test are those of any box head.
        cls_score = torch.stack([logits, torch.zeros_like(logits)], dim=1)
        return dict(cls_score=cls_score, bbox_pred=bbox_pred, bbox_feats=feats, embeddings=embeddings)
