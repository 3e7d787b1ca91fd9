"""Query-guided person-search detector (QEEPS)."""

from dataclasses import dataclass

import torch
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, SampleList
from mmdet.structures.bbox import bbox2roi, scale_boxes
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmps_kd.errors import UserError

from ..dense_heads import QRPNOutputs, RPNOutputs, mark_queries
from ..roi_heads.reid_roi_head import RoIOutputs, assigned_people, crop_ids, positive_rois
from .person_search_rcnn import PersonSearchRCNN, TrainOutputs, for_roi_align


@dataclass
class PairOutputs(TrainOutputs):
    """What the detector computes on B training pairs; all but the following is about the gallery images.

    In ``roi``, embeddings and pids of the P positive RoIs are followed by those of the B queries, then of the other
    people in the query images.

    Attributes:
        qrpn: The QRPN's answer; None without it.
        qsim_logits: (P, 2), of the P positive RoIs, as :class:`QSimNet` gives them; None without it.
        same: (P,) bool, whether a positive RoI is of its query's person.
    """

    qrpn: QRPNOutputs | None
    qsim_logits: Tensor | None
    same: Tensor


@dataclass
class QueryState:
    """One query, all that its pairs need.

    Attributes:
        features: (1, C, H, W), the backbone's state before the first QSSE; None without QSSE.
        box: (1, 4) x1, y1, x2, y2 in network input pixels.
        vector: (C,) for the QRPN; None without QRPN, and with QSSE, where it depends on the gallery image.
        embedding: (D,), unit length; None with QSSE, where it depends on the gallery image.
    """

    features: Tensor | None
    box: Tensor
    vector: Tensor | None
    embedding: Tensor | None


@MODELS.register_module()
class QEEPS(PersonSearchRCNN):
    """Query-guided end-to-end person search (Munjal et al., CVPR 2019), on one feature map (C4).

    Trained on pairs of a query and a gallery image, as :class:`QueryGalleryPairDataset` gives them: ``inputs`` and
    ``data_samples`` are dicts of ``query`` and ``gallery``, query samples carry ``query_instances`` (``bboxes`` (1, 4),
    ``pids`` (1,)). The gallery images are trained on as :class:`PersonSearchRCNN` is; the people of the query images,
    from their true boxes, join the OIM loss (this project's choice).

    At test time a pair is answered by :meth:`encode_queries`, :meth:`encode_gallery` and :meth:`predict_pairs`. Plain
    prediction works too, without a query: each image is its own partner, proposals are the plain RPN's.

    QSSE is switched on in the config of the backbone.

    Args:
        qrpn: Config of the :class:`QRPN`, which takes its sizes from the RPN; None for plain proposals.
        qsim_net: Config of the :class:`QSimNet`, which takes its size from the re-id head; None for the cosine.
        **detector: As for :class:`PersonSearchRCNN`, with a :class:`SiameseResNet` as backbone.
    """

    def __init__(self, qrpn: dict | None = None, qsim_net: dict | None = None, **detector) -> None:
        super().__init__(**detector)
        if self.with_neck:
            raise UserError('QEEPS works on the one feature map of its backbone: take the neck out of the config')
        if qrpn is not None:
            sizes = dict(in_channels=self.rpn_head.in_channels, num_anchors=self.rpn_head.num_base_priors)
            qrpn = MODELS.build({**sizes, **qrpn})
        self.qrpn = qrpn
        if qsim_net is not None:
            qsim_net = MODELS.build({'feat_channels': self.roi_head.reid_head.loss_oim.lut.shape[1], **qsim_net})
        self.qsim_net = qsim_net

    def forward_train(self, batch_inputs: dict[str, Tensor], batch_data_samples: dict[str, SampleList]) -> PairOutputs:
        """Run the model on training pairs.

        Args:
            batch_inputs: ``query`` (B, 3, Hq, Wq) and ``gallery`` (B, 3, Hg, Wg), normalised and padded.
            batch_data_samples: ``query`` and ``gallery``, B samples each.
        """
        samples, queries = batch_data_samples['gallery'], batch_data_samples['query']
        pids = torch.cat([query.query_instances.pids for query in queries])
        query_rois = bbox2roi([query.query_instances.bboxes for query in queries])
        x_query, x = map(for_roi_align, self.backbone.forward_pair(batch_inputs['query'], batch_inputs['gallery']))
        rpn = self.rpn_head.forward_train(x, samples)
        qrpn, scores = None, rpn.cls_scores
        if self.qrpn is not None:
            qrpn = self._propose_train(x, rpn, self._query_vectors(x_query, query_rois), samples, pids)
            scores = add_levels(scores, qrpn.cls_scores)
        sampled = self.sample_rois(scores, rpn.bbox_preds, samples)
        roi = self._identify_train(x, sampled, batch_data_samples, x_query, query_rois)
        pair = roi.rois[positive_rois(sampled), 0].long()
        people, targets = roi.embeddings[: len(pair)], roi.embeddings[len(pair) :][pair]
        qsim_logits = None if self.qsim_net is None else self.qsim_net(people, targets)
        boxes = [sample.gt_instances.bboxes for sample in samples]
        sizes = [sample.img_shape for sample in samples]
        return PairOutputs(x, boxes, sizes, rpn, roi, qrpn, qsim_logits, roi.pids[: len(pair)] == pids[pair])

    def _propose_train(
        self, x: tuple[Tensor], rpn: RPNOutputs, vectors: Tensor, samples: SampleList, pids: Tensor
    ) -> QRPNOutputs:
        """Run the QRPN and sample its anchors as the RPN does, on people and background; the query's are positive."""
        marked = mark_queries(samples, pids)
        _, labels, weights, _, _, avg_factor, _ = self.rpn_head.sample_anchors(rpn.cls_scores, marked)
        return QRPNOutputs(self.qrpn(x, vectors), labels, weights, avg_factor)

    def _identify_train(
        self, x: tuple[Tensor], sampled: list[SamplingResult], samples: dict, x_query: tuple[Tensor], queries: Tensor
    ) -> RoIOutputs:
        """Run the RoI head; where the re-id head has batch norm, people of both images are normalised together."""
        (detected, _), people = self.roi_head.forward_boxes(x, sampled), assigned_people(sampled, samples['gallery'])
        # Whoever is in the query images, from true boxes: first the queries, then the others.
        shown = [(query, query.query_instances) for query in samples['query']]
        shown += [(query, other_people(query)) for query in samples['query']]
        rois = torch.cat([queries, bbox2roi([others.bboxes for _, others in shown[len(queries) :]])])
        others_feats = self.roi_head.extract_reid_feats(x_query, rois)
        feats = torch.cat([self.roi_head.positive_reid_feats(x, detected, sampled), others_feats])
        crops = crop_ids(shown)
        return RoIOutputs(
            **detected,
            embeddings=self.roi_head.reid_head(feats),
            pids=torch.cat([people['pids'], *(instances.pids for _, instances in shown)]),
            crops=None if crops is None or people['crops'] is None else torch.cat([people['crops'], crops]),
            overlaps=torch.cat([people['overlaps'], people['overlaps'].new_ones(len(others_feats))]),
            reid_rois=people['reid_rois'],
        )

    def _query_vectors(self, x: tuple[Tensor], rois: Tensor) -> Tensor:
        """(n, C) means of RoI features at the RPN's level."""
        return self.roi_head.bbox_roi_extractor(x, rois).mean(dim=(2, 3))

    def loss_by_outputs(self, outputs: PairOutputs) -> dict:
        """Losses of the gallery images, of the QRPN and of the similarity; updates the OIM table and queue."""
        losses = super().loss_by_outputs(outputs)
        if self.qrpn is not None:
            losses.update(self.qrpn.loss(outputs.qrpn))
        if self.qsim_net is not None:
            losses.update(self.qsim_net.loss(outputs.qsim_logits, outputs.same))
        return losses

    def named_losses(self) -> dict[str, nn.Module]:
        """The modules that weigh the losses, by the names that their values have in the log."""
        guided = dict(loss_qrpn=self.qrpn, loss_qsim=self.qsim_net)
        return {**super().named_losses(), **{name: part for name, part in guided.items() if part is not None}}

    @torch.no_grad()
    def encode_queries(self, batch_inputs: Tensor, boxes: Tensor) -> list[QueryState]:
        """What the pairs of the queries in one image have in common.

        Args:
            batch_inputs: (1, 3, H, W), the query image, normalised and padded.
            boxes: (n, 4) x1, y1, x2, y2 in network input pixels.

        Raises:
            UserError: If a box has no part in the image.
        """
        require_inside(boxes, batch_inputs.shape[-2:])
        features = self.backbone.independent(batch_inputs)
        if self.backbone.is_guided:
            return [QueryState(features, box[None], None, None) for box in boxes]
        vectors, embeddings = self._describe((features,), boxes)
        return [
            QueryState(None, box[None], None if self.qrpn is None else vector, embedding)
            for box, vector, embedding in zip(boxes, vectors, embeddings, strict=True)
        ]

    @torch.no_grad()
    def encode_gallery(self, batch_inputs: Tensor) -> Tensor:
        """What the pairs of a gallery image (1, 3, H, W) have in common: (1, C, H, W)."""
        return self.backbone.independent(batch_inputs)

    @torch.no_grad()
    def predict_pairs(
        self, gallery_state: Tensor, sample: DetDataSample, queries: list[QueryState], rescale: bool = True
    ) -> list[InstanceData]:
        """Detect people in a gallery image and compare them with queries.

        Args:
            gallery_state: From :meth:`encode_gallery`.
            sample: The gallery image's meta information.
            queries: From :meth:`encode_queries`, at least one; each is answered as if it were alone.
            rescale: Give boxes in original pixels.

        Returns:
            One InstanceData a query: ``bboxes`` (n, 4), ``scores`` (n,), ``similarities`` (n,), with QSimNet the
            probability of the same person, without it the cosine.
        """
        if self.backbone.is_guided:
            answers = []
            for query in queries:
                x_query, x = self.backbone.dependent(query.features, gallery_state)
                answers += self._answer(x, sample.metainfo, *self._describe(x_query, query.box))
        else:
            vectors = None if self.qrpn is None else torch.stack([query.vector for query in queries])
            embeddings = torch.stack([query.embedding for query in queries])
            answers = self._answer((gallery_state,), sample.metainfo, vectors, embeddings)
        if rescale:
            for answer in answers:
                answer.bboxes = scale_boxes(answer.bboxes, [1 / s for s in sample.scale_factor])
        return answers

    def _describe(self, x: tuple[Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
        """(n, C) vectors for the QRPN and (n, D) embeddings of boxes (n, 4) in one image."""
        x = for_roi_align(x)
        return self._query_vectors(x, bbox2roi([boxes])), self.roi_head.embed(x, [boxes])[0]

    def _answer(self, x: tuple[Tensor], meta: dict, vectors: Tensor | None, embeddings: Tensor) -> list[InstanceData]:
        """Detections and similarities of each query, boxes in network input pixels."""
        x = for_roi_align(x)
        scores, deltas = self.rpn_head(x)
        if self.qrpn is None:
            # The same people for all queries.
            found = self._detect_shared(x, scores, deltas, meta) * len(embeddings)
        else:
            scores = add_levels(scores, self.qrpn(x, vectors))
            found = self._detect_shared(x, scores, deltas, meta)
        return [
            InstanceData(bboxes=f.bboxes, scores=f.scores, similarities=self._compare(f.embeddings, query))
            for f, query in zip(found, embeddings, strict=True)
        ]

    def _compare(self, embeddings: Tensor, query: Tensor) -> Tensor:
        if self.qsim_net is None:
            return embeddings @ query
        return self.qsim_net.similarity(embeddings, query.expand_as(embeddings))

    def _detect_shared(
        self, x: tuple[Tensor], scores: list[Tensor], deltas: list[Tensor], meta: dict
    ) -> list[InstanceData]:
        """Detect in one image for Q objectness maps (Q, A, H, W); boxes that several queries need are run once."""
        count = len(scores[0])
        deltas, metas = [level.expand(count, -1, -1, -1) for level in deltas], [meta] * count
        proposals = self.rpn_head.predict_by_feat(scores, deltas, batch_img_metas=metas, cfg=self.test_cfg.rpn)
        return self.roi_head.predict_shared(x, [p.bboxes for p in proposals], meta, self.test_cfg.rpn.max_per_img)


def other_people(query: DetDataSample) -> InstanceData:
    """Whoever stands beside the query in its image."""
    return query.gt_instances[query.gt_instances.pids != query.query_instances.pids]


def add_levels(scores: list[Tensor], more: list[Tensor]) -> list[Tensor]:
    """Sum two objectness maps level by level."""
    return [a + b for a, b in zip(scores, more, strict=True)]


def require_inside(boxes: Tensor, size: torch.Size) -> None:
    """Refuse query boxes (n, 4) that have no part in an image of ``size`` (height, width)."""
    low, high = boxes[:, :2].clamp(min=0), torch.minimum(boxes[:, 2:], boxes.new_tensor([size[1], size[0]]))
    outside = (low >= high).any(dim=1).nonzero()
    if len(outside):
        box = boxes[int(outside[0])].tolist()
        raise UserError(f'query box {box} lies outside its image of {size[1]}x{size[0]} pixels: correct the box')
