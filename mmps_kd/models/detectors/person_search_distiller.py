"""The student, taught: a detector that learns from a detector teacher and from a table of ID vectors."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from torch import Tensor, nn

from mmps_kd.errors import UserError, check_choice

from ..distillers.check_teacher import check_teacher
from ..distillers.detection_file import DetectionFile
from ..distillers.diagnostics import Diagnostics, gradient_norms
from ..distillers.lut import BoxLUT
from ..distillers.reid_network import ReIDTeacher
from ..distillers.share_weights import ShareWeights, parse_share
from ..distillers.teacher import DetectorTeacher, FeatureLevel, blank_image_features
from ..distillers.terms import (
    HEAD_TERMS,
    EmbeddingTerm,
    FeatureTerm,
    HeadOutputs,
    TeacherEmbeddingTerm,
    TeacherOutputs,
    by_anchor,
    cosine_distance,
    outputs_of_boxes,
)
from ..roi_heads import ReIDRoIHead
from .person_search_rcnn import PersonSearchRCNN, TrainOutputs


@MODELS.register_module()
class PersonSearchDistiller(PersonSearchRCNN):
    """A :class:`PersonSearchRCNN` that is supervised by teachers (Munjal, Amin, Galasso, BMVC 2019).

    It *is* the student: prediction is untouched, and its checkpoint is the student's, with the adaptation layers
    beside it under ``distillation``, which a plain student leaves aside on loading. In a training step the student
    runs first, then the teacher on the same images, anchors and RoIs; each configured loss compares the two at one
    location.

    Attributes:
        diagnostics: Where a training step writes what it measures, see :class:`DistillationDiagnosticsHook`; None:
            nothing is measured.

    Args:
        teacher: ``dict(config=..., checkpoint=...)`` of a trained detector, with ``person_class`` if it has several,
            and ``answers='boxes'`` if it is compared by its detections: see :class:`DetectorTeacher`; or
            ``dict(detections=...)``, a :class:`DetectionFile`; or ``dict(network=...)``, a :class:`ReIDTeacher`; None
            if no loss needs it.
        distillation: One dict a loss: ``at`` says where (``backbone.0`` or ``neck.2``: a feature map; ``rpn.cls``,
            ``rpn.bbox``, ``roi.cls``, ``roi.bbox``: a head's answers; ``roi.embedding``: ID vectors against a
            table), ``loss`` is the config of the loss, ``name`` is needed where two stand at one place;
            ``hard_weight`` multiplies the weight of the student's own loss at a head, and with ``cross=True`` the
            teacher's head on the student's features takes the place of the student's (CrossKD). A ``loss_weight`` may
            be ``'share:0.1'``, see :class:`ShareWeights`. At ``roi.embedding``, ``table`` is ``'identity'`` (``lut``,
            the default), ``'box'`` (``box_lut``) or ``'teacher'``, a teacher that is a person-search model or a
            re-identification network and embeds the student's RoIs; with ``'box'``, ``weigh_by_iou=True`` weighs a RoI
            by its overlap with the true box. At a feature map, ``adapter`` and ``mask`` are those of
            :class:`FeatureTerm`, and the loss may be any ``forward(student, teacher)``.
        lut: Config of a :class:`LUTDistiller`; None for plain OIM.
        box_lut: ``dict(lut_file=...)`` of a :class:`BoxLUT`; None if no loss needs it.
        enabled: False switches all of the above off, ``hard_weight`` too, and no file of it is read: training is the
            plain student's.
        **student: As for :class:`PersonSearchRCNN`.

    Raises:
        UserError: If a place does not exist, naming those that do, or a teacher or table is missing or does not fit:
            see :func:`check_teacher`.
    """

    def __init__(
        self,
        teacher: dict | None = None,
        distillation: Sequence[dict] = (),
        lut: dict | None = None,
        box_lut: dict | None = None,
        enabled: bool = True,
        **student,
    ) -> None:
        super().__init__(**student)
        if not enabled:
            teacher, distillation, lut, box_lut = None, (), None, None
        self.teacher: DetectorTeacher | DetectionFile | ReIDTeacher | None = None
        if teacher is not None and 'detections' in teacher:
            self.teacher = DetectionFile(**teacher)
        elif teacher is not None and 'network' in teacher:
            self.teacher = ReIDTeacher(preprocessor=self.data_preprocessor, **teacher)
        elif teacher is not None:
            self.teacher = DetectorTeacher(preprocessor=self.data_preprocessor, **teacher)
        self.lut_distiller = None if lut is None else MODELS.build(lut)
        if self.lut_distiller is not None:
            self.lut_distiller.attach(self.roi_head.reid_head.loss_oim)
        self.box_lut = None if box_lut is None else BoxLUT(dim=self._embedding_size(), **box_lut)
        self.locations = [cfg['at'] for cfg in distillation]
        self.asks_embeddings = any(cfg.get('table') == 'teacher' for cfg in distillation)
        self.names = [cfg.get('name', cfg['at']) for cfg in distillation]
        for name in self.names:
            if self.names.count(name) > 1:
                raise UserError(f'distillation: two losses are called {name}: give each a name of its own')
        asked = [at for at in self.locations if at != 'roi.embedding']
        levels = check_teacher(self, self.teacher, asked) if asked else {}
        named = zip(self.names, distillation, strict=True)
        shares = {f'distill/loss_{name}': parse_share(cfg['loss'].get('loss_weight', 1.0)) for name, cfg in named}
        shares = {name: share for name, share in shares.items() if share is not None}
        self.distillation_shares = ShareWeights(shares) if shares else None
        self.distillation = nn.ModuleList(self._build_term(cfg, levels) for cfg in distillation)
        for cfg in distillation:
            if 'hard_weight' in cfg:
                self._own_loss(cfg['at']).loss_weight *= cfg['hard_weight']
        self.crossed = [cfg.get('cross', False) for cfg in distillation]
        if any(self.crossed):
            self._check_crossed(distillation)
        self.diagnostics: Diagnostics | None = None

    @torch.no_grad()
    def _check_crossed(self, distillation: Sequence[dict]) -> None:
        """Run the teacher's heads on the student's features of a blank image."""
        for cfg, crossed in zip(distillation, self.crossed, strict=True):
            if crossed and (cfg['at'] not in HEAD_TERMS or getattr(self.teacher, 'answers', 'boxes') == 'boxes'):
                raise UserError(
                    f"distillation at '{cfg['at']}': cross=True is for {', '.join(HEAD_TERMS)} and a teacher's heads"
                )
        training = self.training
        x = blank_image_features(self.eval(), (384, 384))
        self.train(training)
        try:
            if self._crosses('rpn'):
                self.teacher.forward_rpn(x)
            if self._crosses('roi'):
                self.teacher.forward_rois(x, x[0].new_tensor([[0, 0, 0, 64, 128]]))
        except RuntimeError as error:
            raise UserError(
                "cross=True runs the teacher's heads on the student's features, which do not fit: "
                f'{str(error).splitlines()[0]}'
            ) from None

    def _crosses(self, stage: str) -> bool:
        """Whether a loss gives the student's features to the teacher's ``rpn`` or ``roi`` head."""
        return any(at.startswith(stage) for at, cross in zip(self.locations, self.crossed, strict=True) if cross)

    def _build_term(self, cfg: dict, levels: dict[str, tuple[FeatureLevel, FeatureLevel]]) -> nn.Module:
        at, loss = cfg['at'], dict(cfg['loss'])
        if isinstance(loss.get('loss_weight'), str):
            loss['loss_weight'] = 1.0
        if at == 'roi.embedding':
            table = cfg.get('table', 'identity')
            check_choice('table', table, ['identity', 'box', 'teacher'])
            if table == 'teacher':
                return TeacherEmbeddingTerm(loss, (self._embedding_size(), self._teacher_embedding_size()))
            source, key = (self.box_lut, 'box_lut') if table == 'box' else (self.lut_distiller, 'lut')
            if source is None:
                raise UserError(f"distillation at 'roi.embedding' compares with a table: configure {key}")
            rows = source.crop_rows() if table == 'box' else source.table.rows
            return EmbeddingTerm(loss, rows, table == 'box', cfg.get('weigh_by_iou', False))
        if at in HEAD_TERMS:
            return HEAD_TERMS[at](loss)
        more = {key: cfg[key] for key in ('adapter', 'mask') if key in cfg}
        return FeatureTerm(loss, *levels[at], **more)

    def _embedding_size(self) -> int:
        return self.roi_head.reid_head.loss_oim.lut.shape[1]

    def _teacher_embedding_size(self) -> int:
        """Size of the teacher's embeddings, which a detector does not have."""
        if isinstance(self.teacher, ReIDTeacher):
            return self.teacher.dim
        head = getattr(getattr(self.teacher, 'model', None), 'roi_head', None)
        if not isinstance(head, ReIDRoIHead):
            there = 'none' if self.teacher is None else self.teacher.config
            raise UserError(
                "distillation at 'roi.embedding' with table='teacher' needs a teacher that is a person-search model or "
                f'a re-identification network, and there is {there}'
            )
        return head.reid_head.loss_oim.lut.shape[1]

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        """Take the names that adaptation layers had while they were part of their loss, too."""
        for key in [key for key in state_dict if key.startswith(f'{prefix}distillation.') and '.loss.adapter.' in key]:
            state_dict[key.replace('.loss.adapter.', '.adapter.')] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _own_loss(self, at: str) -> nn.Module:
        """The student's own loss at a head."""
        if at not in HEAD_TERMS:
            raise UserError(f"distillation at '{at}': hard_weight is for {', '.join(HEAD_TERMS)} alone")
        stage, answer = at.split('.')
        head = self.rpn_head if stage == 'rpn' else self.roi_head.bbox_head
        return getattr(head, f'loss_{answer}')

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        """The student's own losses under ``student/``, what it learns from teachers under ``distill/``."""
        outputs = self.forward_train(batch_inputs, batch_data_samples)
        losses = {f'student/{name}': value for name, value in self.loss_by_outputs(outputs).items()}
        teacher_outputs = self.forward_teacher(batch_inputs, outputs, batch_data_samples)
        crossed = self.forward_crossed(outputs) if any(self.crossed) else outputs
        for name, term, cross in zip(self.names, self.distillation, self.crossed, strict=True):
            losses[f'distill/loss_{name}'] = term(crossed if cross else outputs, teacher_outputs)
        if self.distillation_shares is not None:
            losses = self.distillation_shares(losses, outputs.features)
        if self.diagnostics is not None:
            scale = self.diagnostics.loss_scale
            self.diagnostics.grad_norms = gradient_norms(losses, outputs.features, scale)
            self.diagnostics.distances = self._distances(outputs, teacher_outputs)
        return losses

    @torch.no_grad()
    def _distances(self, student: TrainOutputs, teacher_outputs: TeacherOutputs | None) -> dict[str, Tensor]:
        """Student-teacher distances, at each location and to the look-up table."""
        pairs = zip(self.names, self.distillation, strict=True)
        distances = {name: term.distance(student, teacher_outputs) for name, term in pairs}
        if self.lut_distiller is not None:
            rows = self.lut_distiller.table.rows.to(student.roi.embeddings.device)
            distances['lut'] = cosine_distance(student.roi, rows)
        return distances

    @torch.no_grad()
    def forward_teacher(
        self, batch_inputs: Tensor, student: TrainOutputs, batch_data_samples: SampleList | None = None
    ) -> TeacherOutputs | None:
        """Run those parts of the teacher that a configured loss needs."""
        asked = {at.split('.')[0] for at in self.locations if at != 'roi.embedding'}
        if not asked and not self.asks_embeddings:
            return None
        outputs, rpn, roi = TeacherOutputs(), self.rpn_head, self.roi_head.bbox_head
        by_boxes = self.teacher.answers == 'boxes'
        if not by_boxes or asked - {'rpn', 'roi'} or self.asks_embeddings:
            outputs.features = x = self.teacher.extract_feat(batch_inputs, batch_data_samples)
        if by_boxes and asked & {'rpn', 'roi'}:
            people = self.teacher.detect_people(batch_inputs, batch_data_samples)
        if 'rpn' in asked and by_boxes:
            anchors = torch.cat(student.rpn.anchors, dim=1)
            outputs.rpn = outputs_of_boxes(anchors, people, rpn.bbox_coder, rpn.cls_out_channels)
        elif 'rpn' in asked:
            scores, deltas = self.teacher.forward_rpn(x)
            outputs.rpn = HeadOutputs(by_anchor(scores, rpn.cls_out_channels), by_anchor(deltas, 4))
        if 'roi' in asked and by_boxes:
            rois = student.roi.rois[:, 1:].split([len(result.priors) for result in student.roi.sampling_results])
            outputs.roi = outputs_of_boxes(rois, people, roi.bbox_coder, num_logits=2)
        elif 'roi' in asked:
            outputs.roi = HeadOutputs(*self.teacher.forward_rois(x, student.roi.rois))
        if self.asks_embeddings:
            outputs.embeddings = self.teacher.embed(x, student.roi.reid_rois)
        return outputs

    def forward_crossed(self, student: TrainOutputs) -> TrainOutputs:
        """The student's outputs with the answers of the teacher's heads on its features (Wang et al., CVPR 2024)."""
        rpn, roi = student.rpn, student.roi
        if self._crosses('rpn'):
            scores, deltas = self.teacher.forward_rpn(student.features)
            rpn = replace(rpn, cls_scores=scores, bbox_preds=deltas)
        if self._crosses('roi'):
            scores, deltas = self.teacher.forward_rois(student.features, roi.rois)
            roi = replace(roi, cls_score=scores, bbox_pred=deltas)
        return replace(student, rpn=rpn, roi=roi)

    def teachers(self) -> dict[str, dict[str, str] | None]:
        """Names and hashes of the detector teacher and of the tables' teachers; None where there is none."""
        detector, tables = self.teacher, dict(table=self.lut_distiller, box_table=self.box_lut)
        return dict(
            teacher=detector and dict(config=detector.config, sha256=detector.sha256),
            **{
                name: of
                and dict(config=of.table.teacher_config, sha256=of.table.teacher_sha256, source=of.table.source)
                for name, of in tables.items()
            },
        )

    def objective(self) -> str:
        """The composed objective, for the log: ``1.0 * loss_cls + ... + 0.5 * hint at backbone.0 (...)``."""
        own = [f'{loss.loss_weight:g} * {name}' for name, loss in self.named_losses().items()]
        shares = {} if self.distillation_shares is None else self.distillation_shares.shares
        taught = []
        for name, term in zip(self.names, self.distillation, strict=True):
            share = shares.get(f'distill/loss_{name}')
            weight = f'{loss_weight(term.loss):g}' if share is None else f'share {share:g}'
            taught.append(f'{weight} * {name}: {describe(term)}')
        return ' + '.join([*own, *taught])


def loss_weight(loss: nn.Module) -> float:
    """The factor of a loss; 1 of one that names none."""
    return getattr(loss, 'loss_weight', 1.0)


def describe(term: nn.Module) -> str:
    """A term's loss on one line, with the adaptation layer and mask of a feature map."""
    loss = f'{type(term.loss).__name__}({term.loss.extra_repr()})'
    return f'{loss} after {term.summary}' if isinstance(term, FeatureTerm) else loss
