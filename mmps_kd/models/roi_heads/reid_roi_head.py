"""Box head and re-identification head on shared RoI features."""

from dataclasses import dataclass
from operator import itemgetter

import torch
from mmcv.ops import batched_nms
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.task_modules.assigners import BaseAssigner
from mmdet.models.task_modules.samplers import BaseSampler, SamplingResult
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, SampleList
from mmdet.structures.bbox import bbox2roi, bbox_overlaps, scale_boxes
from mmdet.utils import ConfigType, InstanceList, OptConfigType
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..utils.dist import mean_over_ranks


@dataclass
class BoxOutputs:
    """A box head's answer on the sampled RoIs of a batch, R in all.

    Attributes:
        rois: (R, 5) image index, x1, y1, x2, y2 in network input pixels; image by image, positives first.
        sampling_results: One an image: which RoI is positive and the ground truth that it is assigned to.
        bbox_pred: (R, 4), box deltas.
        labels: (R,) int64, 0 for person, 1 for background.
        label_weights: (R,).
        bbox_targets: (R, 4), deltas to the assigned person, 0 for background.
        bbox_weights: (R, 4), 0 for background.
    """

    rois: Tensor
    sampling_results: list[SamplingResult]
    bbox_pred: Tensor
    labels: Tensor
    label_weights: Tensor
    bbox_targets: Tensor
    bbox_weights: Tensor


@dataclass
class RoIOutputs(BoxOutputs):
    """The RoI head's answer on the sampled RoIs of a batch, R in all, P of them positive.

    Attributes:
        roi_feats: (R, C, h, w), after the shared head.
        cls_score: (R, 2), logits of person and background.
        embeddings: (P, D), unit length, of the positive RoIs.
        pids: (P,) int64, identity of the person that a positive RoI is assigned to, -1 unlabelled.
        crops: (P,) int64, whose vector of a table of boxes belongs to it, see :func:`crop_ids`; None without numbers.
        overlaps: (P,) IoU with the assigned person's box.
        reid_rois: (P, 5), the RoIs that were embedded.
    """

    roi_feats: Tensor
    cls_score: Tensor
    embeddings: Tensor
    pids: Tensor
    crops: Tensor | None
    overlaps: Tensor
    reid_rois: Tensor


@MODELS.register_module()
class ReIDRoIHead(StandardRoIHead):
    """Detection and re-identification from the same RoI features: the Detect+OIM head.

    In training the embeddings are those of the sampled positive RoIs. In testing they are taken from the final
    boxes, after regression and NMS, as query embeddings are taken from the given box.

    Args:
        reid_head: Config of the :class:`ReIDHead`.
        reid_layers: Config of layers between RoI features and re-id head, which then shares no layer behind the RoIs
            with the box head; None: it reads what the box head reads.
        embed_final_boxes: False: a detection's embedding is that of the box which was regressed, before regression,
            as in the published SeqNet, NAE and OIMNet++.
        **kwargs: As for mmdet's ``StandardRoIHead``.
    """

    def __init__(
        self,
        reid_head: ConfigType,
        embed_final_boxes: bool = True,
        reid_layers: OptConfigType = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.reid_head = MODELS.build(reid_head)
        self.reid_layers = None if reid_layers is None else MODELS.build(reid_layers)
        self.embed_final_boxes = embed_final_boxes

    def loss(self, x: tuple[Tensor], rpn_results_list: InstanceList, batch_data_samples: SampleList) -> dict:
        """Losses of box classification, box regression and identification.

        Args:
            x: Feature maps, each (B, C, H, W).
            rpn_results_list: Proposals of each image.
            batch_data_samples: Samples with ``gt_instances`` (``bboxes``, ``labels``, ``pids``).
        """
        outputs = self.forward_train(x, self.sample(rpn_results_list, batch_data_samples), batch_data_samples)
        return self.loss_by_outputs(outputs)

    def sample(self, rpn_results_list: InstanceList, batch_data_samples: SampleList) -> list[SamplingResult]:
        """Assign proposals to ground truth and sample the RoIs to train on."""
        for proposals in rpn_results_list:
            proposals.priors = proposals.pop('bboxes')
        return sample_rois(self.bbox_assigner, self.bbox_sampler, rpn_results_list, batch_data_samples)

    def forward_train(
        self, x: tuple[Tensor], sampling_results: list[SamplingResult], batch_data_samples: SampleList
    ) -> RoIOutputs:
        """Run both heads on the sampled RoIs."""
        detected, _ = self.forward_boxes(x, sampling_results)
        feats = self.positive_reid_feats(x, detected, sampling_results)
        people = assigned_people(sampling_results, batch_data_samples)
        return RoIOutputs(**detected, embeddings=self.reid_head(feats), **people)

    def positive_reid_feats(self, x: tuple[Tensor], detected: dict, sampling_results: list[SamplingResult]) -> Tensor:
        """Features (P, C, h, w) of positive RoIs for the re-id head; ``detected`` is what the box head answered."""
        positive = positive_rois(sampling_results)
        if self.reid_layers is None:
            return detected['roi_feats'][positive]
        return self.extract_reid_feats(x, detected['rois'][positive])

    def forward_boxes(self, x: tuple[Tensor], sampling_results: list[SamplingResult]) -> tuple[dict, dict]:
        """Run the box head on the sampled RoIs.

        Returns:
            The fields of :class:`RoIOutputs` for detection, and all outputs of ``_bbox_forward``.
        """
        rois = bbox2roi([res.priors for res in sampling_results])
        answer = self._bbox_forward(x, rois)
        labels, label_weights, bbox_targets, bbox_weights = self.bbox_head.get_targets(sampling_results, self.train_cfg)
        detected = dict(
            rois=rois,
            sampling_results=sampling_results,
            roi_feats=answer['bbox_feats'],
            cls_score=answer['cls_score'],
            bbox_pred=answer['bbox_pred'],
            labels=labels,
            label_weights=label_weights,
            bbox_targets=bbox_targets,
            bbox_weights=bbox_weights,
        )
        return detected, answer

    def _bbox_forward(self, x: tuple[Tensor], rois: Tensor) -> dict[str, Tensor]:
        """mmdet's, with logits and deltas in fp32 also under autocast: of bfloat16 scores near 1 few differ."""
        answer = super()._bbox_forward(x, rois)
        return {**answer, 'cls_score': answer['cls_score'].float(), 'bbox_pred': answer['bbox_pred'].float()}

    def loss_by_outputs(self, outputs: RoIOutputs) -> dict[str, Tensor]:
        """Losses from the heads' outputs; updates the OIM table and queue."""
        box = box_losses(self.bbox_head, outputs.cls_score, outputs)
        return {**box, **self.reid_head.loss(outputs.embeddings, outputs.pids)}

    def predict(
        self,
        x: tuple[Tensor],
        rpn_results_list: InstanceList,
        batch_data_samples: SampleList,
        rescale: bool = False,
    ) -> InstanceList:
        """Detect people and embed them.

        Returns:
            One InstanceData an image: ``bboxes`` (N, 4), ``scores`` (N,), ``labels`` (N,), ``embeddings`` (N, D);
            boxes in original pixels if ``rescale``.
        """
        metas = [sample.metainfo for sample in batch_data_samples]
        return self._with_embeddings(x, self._detect(x, rpn_results_list, metas), metas, rescale)

    def _detect(self, x: tuple[Tensor], rpn_results_list: InstanceList, metas: list[dict]) -> InstanceList:
        """Final boxes, scores and labels of each image, boxes in network input pixels; with the boxes to embed."""
        if self.embed_final_boxes:
            return self.predict_bbox(x, metas, rpn_results_list, self.test_cfg, rescale=False)
        # predict_bbox does not say which proposal a detection comes from.
        proposals = [res.bboxes for res in rpn_results_list]
        rois = bbox2roi(proposals)
        answer = self._bbox_forward(x, rois)
        boxes = decode(self.bbox_head, rois, answer['bbox_pred'], metas)
        scores = answer['cls_score'].softmax(dim=1)[:, 0].split([len(each) for each in proposals])
        return [self._suppress(*image, self.test_cfg.nms) for image in zip(boxes, scores, proposals, strict=True)]

    def _suppress(self, boxes: Tensor, scores: Tensor, sources: Tensor, nms: dict) -> InstanceData:
        """Leave out boxes of low score, and those that overlap a box of higher score too much.

        Args:
            boxes: (N, 4).
            scores: (N,).
            sources: (N, 4), the boxes before regression.
            nms: Config of the NMS.
        """
        sure = scores > self.test_cfg.score_thr
        boxes, scores, sources = boxes[sure], scores[sure], sources[sure]
        labels = torch.zeros_like(scores, dtype=torch.long)
        kept, indices = batched_nms(boxes, scores, labels, nms, class_agnostic=True)
        found = InstanceData(bboxes=kept[:, :4], scores=kept[:, 4], labels=labels[indices])
        if not self.embed_final_boxes:
            found.boxes_to_embed = sources[indices]
        return found[: self.test_cfg.max_per_img]

    def predict_true_boxes(self, x: tuple[Tensor], batch_data_samples: SampleList, rescale: bool) -> InstanceList:
        """Embed the annotated people as if they were perfect detections: the upper bound of the search.

        Returns:
            As :meth:`predict`, all scores 1.
        """
        results = []
        for sample in batch_data_samples:
            boxes, labels = sample.gt_instances.bboxes, sample.gt_instances.labels
            results.append(InstanceData(bboxes=boxes, scores=boxes.new_ones(len(boxes)), labels=labels))
        return self._with_embeddings(x, results, [sample.metainfo for sample in batch_data_samples], rescale)

    def _with_embeddings(
        self, x: tuple[Tensor], results: InstanceList, metas: list[dict], rescale: bool
    ) -> InstanceList:
        embeddings = self.embed(x, [res.pop('boxes_to_embed', res.bboxes) for res in results])
        for res, emb, meta in zip(results, embeddings, metas, strict=True):
            res.embeddings = emb
            if rescale:
                res.bboxes = scale_boxes(res.bboxes, [1 / s for s in meta['scale_factor']])
        return results

    def predict_shared(self, x: tuple[Tensor], proposals: list[Tensor], meta: dict, chunk: int) -> InstanceList:
        """Detect and embed for several lists of proposals in one image, each as if it were the only one.

        Lists chosen for different queries have most boxes in common; each box goes through the heads once.

        Args:
            x: Feature maps of one image, each (1, C, H, W).
            proposals: One (n, 4) tensor a query, x1, y1, x2, y2 in network input pixels.
            meta: Meta information of the image.
            chunk: RoIs at a time, which bounds the memory.

        Returns:
            One InstanceData a query: ``bboxes`` (m, 4) in network input pixels, ``scores``, ``labels``, ``embeddings``.
        """
        counts = [len(boxes) for boxes in proposals]
        boxes, position = torch.cat(proposals).unique(dim=0, return_inverse=True)
        rois = bbox2roi([boxes])
        # Their features would need 0.4 MB a box (ResNet-50): only the outputs are kept.
        outputs = [itemgetter('cls_score', 'bbox_pred')(self._bbox_forward(x, part)) for part in rois.split(chunk)]
        scores, deltas = (torch.cat(parts) for parts in zip(*outputs, strict=True))
        results = self.bbox_head.predict_by_feat(
            *(values[position].split(counts) for values in (rois, scores, deltas)), [meta] * len(counts), self.test_cfg
        )
        boxes, position = torch.cat([result.bboxes for result in results]).unique(dim=0, return_inverse=True)
        embeddings = self.embed(x, [boxes])[0][position]
        for result, rows in zip(results, embeddings.split([len(result) for result in results]), strict=True):
            result.embeddings = rows
        return results

    def embed(self, x: tuple[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        """Embed given boxes.

        Args:
            x: Feature maps, each (B, C, H, W).
            boxes: One (N_b, 4) tensor an image, x1, y1, x2, y2 in network input pixels.

        Returns:
            One (N_b, D) tensor an image, rows of unit length.
        """
        return list(self.reid_head(self.extract_reid_feats(x, bbox2roi(boxes))).split([len(b) for b in boxes]))

    def extract_reid_feats(self, x: tuple[Tensor], rois: Tensor) -> Tensor:
        """Features (R, C, h, w) of RoIs (R, 5) that the re-id head reads."""
        feats = self.bbox_roi_extractor(x[: self.bbox_roi_extractor.num_inputs], rois)
        if self.reid_layers is not None:
            return self.reid_layers(feats)
        return self.shared_head(feats) if self.with_shared_head else feats

    def named_losses(self) -> dict[str, nn.Module]:
        """The loss modules by the names that their values have in the log."""
        return dict(
            loss_cls=self.bbox_head.loss_cls, loss_bbox=self.bbox_head.loss_bbox, loss_oim=self.reid_head.loss_oim
        )


def decode(head: BBoxHead, rois: Tensor, bbox_pred: Tensor, metas: list[dict]) -> list[Tensor]:
    """Apply a class-agnostic head's deltas to its RoIs.

    Args:
        head: With the box coder.
        rois: (R, 5) image index, x1, y1, x2, y2.
        bbox_pred: (R, 4).
        metas: One an image, with ``img_shape``, to which boxes are clipped.

    Returns:
        One (R_b, 4) tensor an image.
    """
    images = [rois[:, 0] == index for index in range(len(metas))]
    return [
        head.bbox_coder.decode(rois[own, 1:], bbox_pred[own], max_shape=meta['img_shape'])
        for own, meta in zip(images, metas, strict=True)
    ]


def box_losses(head: BBoxHead, cls_score: Tensor | None, outputs: BoxOutputs) -> dict[str, Tensor]:
    """Losses of a box head, in a distributed run divided by the mean number of RoIs over ranks.

    Args:
        head: The box head.
        cls_score: (R, 2) logits; None for a head without classification.
        outputs: Its answer and targets.
    """
    losses = head.loss(
        cls_score,
        outputs.bbox_pred,
        outputs.rois,
        outputs.labels,
        outputs.label_weights,
        outputs.bbox_targets,
        outputs.bbox_weights,
    )
    # mmdet divides by the number on this rank.
    share = len(outputs.rois) / mean_over_ranks(len(outputs.rois), outputs.rois.device)
    return {name: share * value if name.startswith('loss') else value for name, value in losses.items()}


def sample_rois(
    assigner: BaseAssigner, sampler: BaseSampler, candidates: InstanceList, batch_data_samples: SampleList
) -> list[SamplingResult]:
    """Assign each image's candidate boxes (``priors``) to ground truth and sample the RoIs to train on."""
    sampling_results = []
    for boxes, sample in zip(candidates, batch_data_samples, strict=True):
        assigned = assigner.assign(boxes, sample.gt_instances, sample.get('ignored_instances'))
        sampling_results.append(sampler.sample(assigned, boxes, sample.gt_instances))
    return sampling_results


def assigned_people(sampling_results: list[SamplingResult], batch_data_samples: SampleList) -> dict[str, Tensor | None]:
    """``pids``, ``crops``, ``overlaps`` and ``reid_rois`` of :class:`RoIOutputs`, of the batch's P positive RoIs."""
    pairs = zip(batch_data_samples, sampling_results, strict=True)
    people = [(sample, sample.gt_instances[res.pos_assigned_gt_inds]) for sample, res in pairs]
    boxes = torch.cat([assigned.bboxes for _, assigned in people])
    rois = bbox2roi([res.pos_priors for res in sampling_results])
    return dict(
        pids=torch.cat([assigned.pids for _, assigned in people]),
        crops=crop_ids(people),
        overlaps=bbox_overlaps(rois[:, 1:], boxes, is_aligned=True),
        reid_rois=rois,
    )


def crop_ids(people: list[tuple[DetDataSample, InstanceData]]) -> Tensor | None:
    """(P,) int64: twice the number of each box in the data set, plus 1 in a mirrored image; None without numbers."""
    if any('box_ids' not in assigned for _, assigned in people):
        return None
    return torch.cat([2 * assigned.box_ids + bool(sample.get('flip')) for sample, assigned in people])


def positive_rois(sampling_results: list[SamplingResult]) -> Tensor:
    """(P,) int64 indices of the positive RoIs among all sampled RoIs of the batch."""
    indices, start = [], 0
    for res in sampling_results:
        indices.append(torch.arange(start, start + len(res.pos_inds), device=res.pos_inds.device))
        start += len(res.pos_inds) + len(res.neg_inds)
    return torch.cat(indices)
