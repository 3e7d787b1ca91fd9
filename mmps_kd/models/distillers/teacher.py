"""The detector teacher: outside of the student's module tree, in eval mode, without gradients."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample, SampleList
from mmdet.utils import InstanceList
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.structures import InstanceData
from torch import Tensor

from mmps_kd.errors import UserError, check_choice

from ..utils.checkpoint_io import file_sha256, load_teacher, read_checkpoint
from .teacher_cache import TeacherCache


@dataclass(frozen=True)
class FeatureLevel:
    """One feature map of a detector: its name in the model's own terms, channels, and stride in pixels."""

    name: str
    channels: int
    stride: int

    @property
    def index(self) -> int:
        """Which of the model's feature maps it is, counted from 0."""
        return int(self.name.split('.')[1])

    def __str__(self) -> str:
        """For the list of what there is."""
        return f'{self.name} ({self.channels} channels, stride {self.stride})'


class DetectorTeacher:
    """A trained detector, run on the student's images, anchors and RoIs.

    It is no module, so that it is in none of the student's ``parameters()``, ``state_dict()``, EMA copies, ``train()``
    calls or DDP buckets. It follows the device of what it is asked about, and a copy of the student shares it.

    Args:
        config: Config file of the teacher, or name of one of an installed package, such as
            ``mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py``.
        checkpoint: Its trained weights.
        preprocessor: The student's data preprocessor: inputs are normalised its way, and brought to the teacher's.
        person_class: Which of its classes people are, 0 in COCO; needed where it has several and is asked for more
            than features and objectness. Class logits become two, of this class and of everything else.
        answers: What is compared at ``rpn.*`` and ``roi.*``: ``heads``, the answers of the teacher's own RPN and box
            head on the student's anchors and RoIs; or ``boxes``, the boxes and scores of the people that it detects,
            which any detector has, see :func:`outputs_of_boxes`.
        cache: ``dict(folder=...)`` and ``max_gb`` of a :class:`TeacherCache` of feature maps and detections; None: the
            teacher runs in each step.

    Raises:
        UserError: If a file is missing or damaged, weights and config do not fit, or there is no such class.
    """

    def __init__(
        self,
        config: str,
        checkpoint: str,
        preprocessor: torch.nn.Module,
        person_class: int | None = None,
        answers: str = 'heads',
        cache: dict | None = None,
    ) -> None:
        check_choice('answers', answers, ['heads', 'boxes'])
        try:
            cfg = get_config(config) if '::' in config else Config.fromfile(config, import_custom_modules=False)
        except (FileNotFoundError, ImportError, AssertionError) as error:
            raise UserError(f'teacher config {config} does not exist ({error})') from None
        state = read_checkpoint(checkpoint)['state_dict']
        self.config, self.sha256 = Path(config).name, file_sha256(checkpoint)
        # What the student draws must not depend on its teacher.
        with torch.random.fork_rng(devices=[]):
            self.model: BaseDetector = load_teacher(cfg, state, checkpoint).requires_grad_(False)
        self.num_classes = count_classes(self.model)
        if self.num_classes == 1:
            person_class = 0
        if person_class is not None and not 0 <= person_class < self.num_classes:
            raise UserError(f'teacher {config} has classes 0 to {self.num_classes - 1}: person_class={person_class}')
        self.person_class, self.answers = person_class, answers
        self.preprocessor = preprocessor
        # Compared once: in a training step it would wait for the GPU.
        self.same_normalisation = normalise_alike(preprocessor, self.model.data_preprocessor)
        about = f'{self.sha256} {cfg.model} {person_class}'
        self.cache = None if cache is None else TeacherCache(teacher=about, **cache)

    def __deepcopy__(self, memo: dict) -> Any:
        """An averaged copy of the student asks the same teacher."""
        return self

    @torch.no_grad()
    def extract_feat(self, inputs: Tensor, samples: SampleList | None = None) -> tuple[Tensor, ...]:
        """Feature maps of images (B, 3, H, W) that are normalised the student's way; see :func:`renormalise`."""
        images = self._own_inputs(inputs, samples)
        if self.cache is None:
            return self.model.extract_feat(images)

        def compute(indices: list[int]) -> list[dict[str, Tensor]]:
            maps = self.model.extract_feat(images[indices])
            return [{str(level): x[i] for level, x in enumerate(maps)} for i in range(len(indices))]

        known = self.cache.answers(images, 'features', compute)
        return tuple(torch.stack([maps[level] for maps in known]) for level in known[0])

    @torch.no_grad()
    def predict(self, inputs: Tensor, samples: SampleList) -> list[DetDataSample]:
        """Detected people in images that are normalised the student's way, in original pixels.

        ``samples`` stay as they are. Of a teacher with several classes and no ``person_class``, all it detects.

        Args:
            inputs: (B, 3, H, W).
            samples: Their meta information.
        """
        return self._predict(self._own_inputs(inputs, samples), samples, rescale=True)

    @torch.no_grad()
    def detect_people(self, inputs: Tensor, samples: SampleList) -> InstanceList:
        """Detected people of each image: ``bboxes`` (N, 4) in pixels of ``inputs``, ``scores`` (N,)."""
        images = self._own_inputs(inputs, samples)

        def compute(indices: list[int]) -> list[dict[str, Tensor]]:
            results = self._predict(images[indices], [samples[index] for index in indices], rescale=False)
            found = [result.pred_instances for result in results]
            return [dict(bboxes=people.bboxes, scores=people.scores) for people in found]

        everyone = list(range(len(images)))
        known = compute(everyone) if self.cache is None else self.cache.answers(images, 'detections', compute)
        return [InstanceData(**people) for people in known]

    def forward_rpn(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness logits and deltas of every anchor, by level, as the RPN gives them.

        Of the student's feature maps they have a gradient, the teacher's weights have none.
        """
        return self.model.rpn_head(x)

    def forward_rois(self, x: tuple[Tensor, ...], rois: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (R, 2) of person and rest, and the person's deltas (R, 4), of RoIs (R, 5); gradients as above."""
        answer = self.model.roi_head._bbox_forward(x, rois)
        logits, deltas = answer['cls_score'], answer['bbox_pred']
        if self.num_classes == 1:
            return logits, deltas
        logits, person = logits.float(), self.person_class
        # The same probability of a person as that of the softmax over all classes.
        rest = torch.cat([logits[:, :person], logits[:, person + 1 :]], dim=1).logsumexp(dim=1)
        if deltas.shape[1] > 4:
            deltas = deltas[:, 4 * person : 4 * person + 4]
        return torch.stack([logits[:, person], rest], dim=1), deltas

    @torch.no_grad()
    def embed(self, x: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        """(R, D) unit vectors of RoIs (R, 5), of a teacher that is a person-search model itself."""
        head = self.model.roi_head
        return head.reid_head(head.extract_reid_feats(x, rois))

    def _predict(self, images: Tensor, samples: SampleList, rescale: bool) -> list[DetDataSample]:
        copies = [sample.new() for sample in samples]
        results = self.model.predict(images, copies, rescale=rescale)
        if self.person_class is not None:
            for result in results:
                result.pred_instances = result.pred_instances[result.pred_instances.labels == self.person_class]
        return results

    def _own_inputs(self, inputs: Tensor, samples: SampleList | None) -> Tensor:
        if next(self.model.parameters()).device != inputs.device:
            self.model.to(inputs.device)
        if self.same_normalisation:
            return inputs
        return renormalise(inputs, self.preprocessor, self.model.data_preprocessor, samples)


def count_classes(model: BaseDetector) -> int:
    """How many classes a detector tells apart; 1 without a head that does."""
    head = getattr(getattr(model, 'roi_head', model), 'bbox_head', None)
    head = head[-1] if isinstance(head, torch.nn.ModuleList) else head
    return getattr(head, 'num_classes', 1)


def normalisation(preprocessor: torch.nn.Module) -> tuple[Tensor | float, Tensor | float, bool, float]:
    """Mean, standard deviation, whether the order of channels is reversed, and the value of the padding.

    A preprocessor without mean and standard deviation leaves the pixels as they are: mean 0, standard deviation 1.
    That of a query-guided model holds the one of each image.
    """
    preprocessor = getattr(preprocessor, 'data_preprocessor', preprocessor)
    return (
        getattr(preprocessor, 'mean', 0.0),
        getattr(preprocessor, 'std', 1.0),
        getattr(preprocessor, '_channel_conversion', False),
        getattr(preprocessor, 'pad_value', 0.0),
    )


def normalise_alike(student: torch.nn.Module, teacher: torch.nn.Module) -> bool:
    """Whether two data preprocessors make the same of an image and of the padding beside it."""
    pairs = zip(normalisation(student), normalisation(teacher), strict=True)
    return all(torch.as_tensor(a).tolist() == torch.as_tensor(b).tolist() for a, b in pairs)


def renormalise(
    inputs: Tensor, student: torch.nn.Module, teacher: torch.nn.Module, samples: SampleList | None = None
) -> Tensor:
    """Bring images normalised by one data preprocessor to what another would make of them, padding included.

    Args:
        inputs: (B, 3, H, W), padded at the right and at the bottom, after normalisation.
        student: Preprocessor that made them, on their device.
        teacher: Preprocessor to follow, on their device.
        samples: Their meta information with ``img_shape``, the size without padding. None: the last rows and columns
            that hold the student's padding value alone are padding.
    """
    mean, std, flipped, pad_value = normalisation(student)
    new_mean, new_std, new_flipped, new_pad_value = normalisation(teacher)
    pixels = inputs * std + mean
    pixels = pixels.flip(1) if flipped != new_flipped else pixels
    images = (pixels - new_mean) / new_std
    if samples is None:
        # Counted from the last row or column: 1 as long as nothing but padding was seen.
        empty = (inputs == pad_value).all(dim=1)
        rows, columns = (empty.all(dim=dim).flip(1).cumprod(dim=1).flip(1).bool() for dim in (2, 1))
        return images.masked_fill((rows[:, :, None] | columns[:, None])[:, None], new_pad_value)
    for image, sample in zip(images, samples, strict=True):
        height, width = sample.img_shape[:2]
        image[:, height:] = new_pad_value
        image[:, :, width:] = new_pad_value
    return images


@torch.no_grad()
def blank_image_features(model: BaseDetector, size: tuple[int, int]) -> tuple[Tensor, ...]:
    """The feature maps that a detector in eval mode gives to its heads, of one image of ``size`` (height, width)."""
    return model.extract_feat(next(model.parameters()).new_zeros(1, 3, *size))


def feature_levels(model: BaseDetector, maps: tuple[Tensor, ...], height: int) -> list[FeatureLevel]:
    """Name and describe a detector's feature maps of an image of that height."""
    name = 'neck' if model.with_neck else 'backbone'
    return [FeatureLevel(f'{name}.{i}', x.shape[1], round(height / x.shape[2])) for i, x in enumerate(maps)]
