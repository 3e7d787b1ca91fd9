"""Two-stage detector that also identifies."""

from dataclasses import dataclass

import torch
from mmdet.models.detectors import FasterRCNN
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmps_kd.errors import UserError

from ..dense_heads import RPNOutputs
from ..roi_heads import RoIOutputs
from ..utils.invalid_loss import require_finite


@dataclass
class TrainOutputs:
    """What the detector computes on a training batch before it turns it into losses.

    Attributes:
        features: Feature maps that RPN and RoI head read, each (B, C, H, W).
        boxes: People of each image, (G_b, 4) x1, y1, x2, y2 in network input pixels.
        image_sizes: Height and width of each image in network input pixels; what lies beyond is padding.
        rpn: The RPN's answer and the anchors that were sampled.
        roi: The RoI head's answer on the RoIs that were sampled.
    """

    features: tuple[Tensor, ...]
    boxes: list[Tensor]
    image_sizes: list[tuple[int, int]]
    rpn: RPNOutputs
    roi: RoIOutputs


@MODELS.register_module()
class PersonSearchRCNN(FasterRCNN):
    """Faster R-CNN with a re-identification branch, for joint detection and search.

    Trained on samples whose ``gt_instances`` carry ``pids``. At test time, where a sample carries
    ``query_instances`` (``bboxes`` in network input pixels, ``query_ids``), the given boxes are embedded from the
    same feature maps, so that no image is run twice. With ``test_cfg.true_boxes=True`` the annotated boxes take the
    place of detections: the upper bound of the search.
    """

    def __init__(self, *args, **kwargs) -> None:
        """As for mmdet's ``FasterRCNN``.

        Raises:
            UserError: If a head is for several classes.
        """
        super().__init__(*args, **kwargs)
        for name, module in self.roi_head.named_modules():
            if getattr(module, 'num_classes', 1) != 1:
                raise UserError(
                    f'roi_head.{name} has num_classes={module.num_classes}: a person search is for one class, so set '
                    "num_classes=1, and name the class in the data sets' metainfo"
                )

    def init_weights(self) -> None:
        """Initialise, from pretrained weights where the config names some.

        Raises:
            UserError: If pretrained weights can be neither found nor downloaded.
        """
        try:
            super().init_weights()
        except (OSError, ImportError, UserError) as error:
            sources = {m.init_cfg['checkpoint'] for m in self.modules() if 'checkpoint' in (_init_cfg(m) or {})}
            raise UserError(
                f'pretrained weights could not be loaded ({error}): make {", ".join(sorted(sources))} reachable, or '
                'put the file on this machine and name it as init_cfg.checkpoint, or set init_cfg=None'
            ) from error

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        """Leave aside what a distilled checkpoint holds beside the student: adaptation layers, loss weights."""
        if not self._modules.get('distillation'):
            for key in [key for key in state_dict if key.startswith(f'{prefix}distillation')]:
                del state_dict[key]
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, inputs: Tensor, data_samples: SampleList | None = None, mode: str = 'tensor') -> dict | list:
        """Entry for training and testing; losses that are not finite never reach the weights.

        Raises:
            NonFiniteLossError: In mode 'loss', if a loss is NaN or infinite; names it and the images.
        """
        results = super().forward(inputs, data_samples, mode)
        if mode == 'loss':
            require_finite(results, image_paths(data_samples))
        return results

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        """Losses of detection and identification.

        Args:
            batch_inputs: (B, 3, H, W), normalised and padded.
            batch_data_samples: Samples with ``gt_instances`` (``bboxes``, ``labels`` all 0, ``pids``).
        """
        return self.loss_by_outputs(self.forward_train(batch_inputs, batch_data_samples))

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of images (B, 3, H, W), each (B, C, h, w)."""
        return for_roi_align(super().extract_feat(batch_inputs))

    def forward_train(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> TrainOutputs:
        """Run backbone, RPN and RoI head on a training batch."""
        x = self.extract_feat(batch_inputs)
        rpn = self.rpn_head.forward_train(x, batch_data_samples)
        sampled = self.sample_rois(rpn.cls_scores, rpn.bbox_preds, batch_data_samples)
        boxes = [sample.gt_instances.bboxes for sample in batch_data_samples]
        sizes = [sample.img_shape for sample in batch_data_samples]
        return TrainOutputs(x, boxes, sizes, rpn, self.roi_head.forward_train(x, sampled, batch_data_samples))

    def sample_rois(
        self, cls_scores: list[Tensor], bbox_preds: list[Tensor], batch_data_samples: SampleList
    ) -> list[SamplingResult]:
        """Choose proposals by the RPN's answer, and of these the RoIs to train on."""
        metas = [sample.metainfo for sample in batch_data_samples]
        proposals = self.rpn_head.predict_by_feat(
            cls_scores, bbox_preds, batch_img_metas=metas, cfg=self.train_cfg.rpn_proposal
        )
        return self.roi_head.sample(proposals, batch_data_samples)

    def loss_by_outputs(self, outputs: TrainOutputs) -> dict:
        """Losses from :meth:`forward_train`'s answer; updates the OIM table and queue."""
        return {**self.rpn_head.loss_by_outputs(outputs.rpn), **self.roi_head.loss_by_outputs(outputs.roi)}

    def named_losses(self) -> dict[str, nn.Module]:
        """The modules that weigh the losses, by the names that their values have in the log."""
        rpn = dict(loss_rpn_cls=self.rpn_head.loss_cls, loss_rpn_bbox=self.rpn_head.loss_bbox)
        return {**rpn, **self.roi_head.named_losses()}

    def predict(self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True) -> SampleList:
        """Detect and embed people, and embed the given query boxes.

        Args:
            batch_inputs: (B, 3, H, W), normalised and padded.
            batch_data_samples: Samples with meta information, optionally with ``query_instances``.
            rescale: Give boxes in original pixels.

        Returns:
            The samples with ``pred_instances`` (``bboxes``, ``scores``, ``labels``, ``embeddings``) and, where
            queries were given, ``pred_queries`` (``query_ids``, ``embeddings``).
        """
        x = self.extract_feat(batch_inputs)
        if self.test_cfg.get('true_boxes', False):
            results = self.roi_head.predict_true_boxes(x, batch_data_samples, rescale=rescale)
        else:
            proposals = self.rpn_head.predict(x, batch_data_samples, rescale=False)
            results = self.roi_head.predict(x, proposals, batch_data_samples, rescale=rescale)
        self._embed_queries(x, batch_data_samples)
        return self.add_pred_to_datasample(batch_data_samples, results)

    def _embed_queries(self, x: tuple[Tensor], batch_data_samples: SampleList) -> None:
        no_box = x[0].new_zeros((0, 4))
        queries = [sample.get('query_instances') for sample in batch_data_samples]
        if all(q is None for q in queries):
            return
        embeddings = self.roi_head.embed(x, [no_box if q is None else q.bboxes for q in queries])
        for sample, query, embedding in zip(batch_data_samples, queries, embeddings, strict=True):
            if query is not None:
                sample.pred_queries = InstanceData(query_ids=query.query_ids, embeddings=embedding)


def for_roi_align(features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Feature maps as mmcv's RoIAlign can read them.

    It knows fp32 and fp16, but not bf16, and on CPU takes a ``channels_last`` map for a contiguous one.
    """
    return tuple((level.float() if level.dtype == torch.bfloat16 else level).contiguous() for level in features)


def image_paths(samples: SampleList | dict[str, SampleList]) -> list[str]:
    """Paths of a batch's images, of both parts where samples are pairs."""
    if isinstance(samples, dict):
        return [path for part in samples.values() for path in image_paths(part)]
    return [str(sample.get('img_path')) for sample in samples]


def _init_cfg(module: nn.Module) -> dict | None:
    """A module's initialisation where it is a single one, as pretrained weights are."""
    cfg = getattr(module, 'init_cfg', None)
    return cfg if isinstance(cfg, dict) else None
