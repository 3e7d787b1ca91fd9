"""Detection first, identification on the detected boxes."""

from dataclasses import dataclass

from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi
from mmdet.utils import ConfigType, InstanceList, OptConfigType
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmps_kd.errors import UserError

from .reid_roi_head import (
    BoxOutputs,
    ReIDRoIHead,
    RoIOutputs,
    assigned_people,
    box_losses,
    decode,
    positive_rois,
    sample_rois,
)


@dataclass
class SecondStageOutputs(BoxOutputs):
    """The second head's answer on the S boxes that were sampled from the first head's.

    Attributes:
        scores: (S,), logits of being a person.
    """

    scores: Tensor


@dataclass
class SeqRoIOutputs(RoIOutputs):
    """:class:`RoIOutputs` of the first head, but for the embeddings.

    Attributes:
        embeddings: (P, D), unit length, of the second stage's positive boxes.
        pids: (P,) int64, identity of the person that such a box is assigned to, -1 unlabelled.
        second: The second stage's answer.
    """

    second: SecondStageOutputs


@MODELS.register_module()
class SeqRoIHead(ReIDRoIHead):
    """The two heads in sequence of SeqNet (Li and Miao, AAAI 2021).

    The first head is a box head on proposals. Its boxes, after regression, are sampled anew and go to the second: a
    norm-aware re-id head with a box regression of its own, on RoI features that share nothing with the first head's.
    No gradient flows from the second stage into the first head's boxes.

    In testing the first head's detections, after NMS, are regressed once more by the second head and go through a
    second, milder NMS. The published code takes embeddings from the boxes that the second head reads:
    ``embed_final_boxes=False``.

    Args:
        second_bbox_head: Config of the second head's box regression, with ``with_cls=False``.
        shared_head: Config of the layers between RoI features and the first head; None for none.
        second_shared_head: Config of those of the second stage; None: the same as ``shared_head``, with own weights.
        first_cls_score: A detection keeps the first head's score, as published; otherwise the norm decides.
        **kwargs: As for :class:`ReIDRoIHead`; ``reid_head`` is a :class:`NormAwareReIDHead`, ``train_cfg.second`` has
            the second stage's ``assigner`` and ``sampler``, ``test_cfg.second`` its ``nms``.

    Raises:
        UserError: If there are ``reid_layers``.
    """

    def __init__(
        self,
        second_bbox_head: ConfigType,
        shared_head: OptConfigType = None,
        second_shared_head: OptConfigType = None,
        first_cls_score: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(shared_head=shared_head, **kwargs)
        if self.reid_layers is not None:
            raise UserError('SeqRoIHead has no reid_layers: the layers before its re-id head are second_shared_head')
        second_shared_head = second_shared_head or shared_head
        self.second_shared_head = nn.Identity() if second_shared_head is None else MODELS.build(second_shared_head)
        self.second_bbox_head: BBoxHead = MODELS.build(second_bbox_head)
        self.first_cls_score = first_cls_score

    def init_assigner_sampler(self) -> None:
        """Build assigner and sampler of both stages."""
        super().init_assigner_sampler()
        if self.train_cfg:
            second = self.train_cfg.second
            self.second_assigner = TASK_UTILS.build(second.assigner)
            self.second_sampler = TASK_UTILS.build(second.sampler, default_args=dict(context=self))

    def forward_train(
        self, x: tuple[Tensor], sampling_results: list[SamplingResult], batch_data_samples: SampleList
    ) -> SeqRoIOutputs:
        """Run the first head on the sampled RoIs, the second on RoIs sampled from the first one's boxes."""
        first, _ = self.forward_boxes(x, sampling_results)
        metas = [sample.metainfo for sample in batch_data_samples]
        refined = decode(self.bbox_head, first['rois'], first['bbox_pred'].detach(), metas)
        candidates = [InstanceData(priors=boxes) for boxes in refined]
        sampled = sample_rois(self.second_assigner, self.second_sampler, candidates, batch_data_samples)
        rois = bbox2roi([res.priors for res in sampled])
        bbox_pred, embeddings, scores = self.forward_second(x, rois)
        targets = self.second_bbox_head.get_targets(sampled, self.train_cfg)
        return SeqRoIOutputs(
            **first,
            embeddings=embeddings[positive_rois(sampled)],
            **assigned_people(sampled, batch_data_samples),
            second=SecondStageOutputs(rois, sampled, bbox_pred, *targets, scores),
        )

    def forward_second(self, x: tuple[Tensor], rois: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Deltas (S, 4), embeddings (S, D) and logits (S,) of the second head on RoIs (S, 5)."""
        feats = self.extract_reid_feats(x, rois)
        # Of two branches the last, after conv5.
        _, bbox_pred = self.second_bbox_head(feats[:, -self.second_bbox_head.in_channels :])
        return bbox_pred, *self.reid_head.embed_and_score(feats)

    def extract_reid_feats(self, x: tuple[Tensor], rois: Tensor) -> Tensor:
        """Features (R, C, h, w) of RoIs (R, 5), after the second shared head."""
        feats = self.bbox_roi_extractor(x[: self.bbox_roi_extractor.num_inputs], rois)
        return self.second_shared_head(feats)

    def loss_by_outputs(self, outputs: SeqRoIOutputs) -> dict[str, Tensor]:
        """Losses of both heads; updates the OIM table and queue."""
        second = outputs.second
        box = box_losses(self.second_bbox_head, None, second)
        return dict(
            **super().loss_by_outputs(outputs),
            loss_second_cls=self.reid_head.loss_score(second.scores, second.labels == 0),
            loss_second_bbox=box['loss_bbox'],
        )

    def _detect(self, x: tuple[Tensor], rpn_results_list: InstanceList, metas: list[dict]) -> InstanceList:
        first = super()._detect(x, rpn_results_list, metas)
        read = [res.bboxes for res in first]
        rois = bbox2roi(read)
        bbox_pred, _, logits = self.forward_second(x, rois)
        boxes = decode(self.second_bbox_head, rois, bbox_pred, metas)
        scores = [res.scores for res in first]
        if not self.first_cls_score:
            scores = logits.sigmoid().split([len(res) for res in first])
        return [self._suppress(*image, self.test_cfg.second.nms) for image in zip(boxes, scores, read, strict=True)]

    def named_losses(self) -> dict[str, nn.Module]:
        """The loss modules by the names that their values have in the log."""
        return dict(
            **super().named_losses(),
            loss_second_cls=self.reid_head.loss_cls,
            loss_second_bbox=self.second_bbox_head.loss_bbox,
        )
