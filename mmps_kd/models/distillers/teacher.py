"""The detector teacher: outside of the student's module tree, in eval mode, without gradients."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmdet.models.detectors import TwoStageDetector
from mmengine.config import Config
from torch import Tensor

from mmps_kd.errors import UserError

from ..trained import file_sha256, load_teacher, read_checkpoint


@dataclass(frozen=True)
class FeatureLevel:
    """One feature map of a detector: its name in the model's own terms, channels, and stride in pixels."""

    name: str
    channels: int
    stride: int

    def __str__(self) -> str:
        """For the list of what there is."""
        return f'{self.name} ({self.channels} channels, stride {self.stride})'


class DetectorTeacher:
    """A trained detector that judges the student's anchors and RoIs.

    It is no module, so that it is in none of the student's ``parameters()``, ``state_dict()``, EMA copies, ``train()``
    calls or DDP buckets. It follows the device of what it is asked about, and a copy of the student shares it.

    Args:
        config: Config file of the teacher.
        checkpoint: Its trained weights.
        preprocessor: The student's data preprocessor: inputs are normalised its way, and brought to the teacher's.

    Raises:
        UserError: If a file is missing or damaged, or weights and config do not fit.
    """

    def __init__(self, config: str, checkpoint: str, preprocessor: torch.nn.Module) -> None:
        if not Path(config).is_file():
            raise UserError(f'teacher config {config} does not exist')
        cfg = Config.fromfile(config, import_custom_modules=False)
        state = read_checkpoint(checkpoint)['state_dict']
        self.config, self.sha256 = Path(config).name, file_sha256(checkpoint)
        # What the student draws must not depend on its teacher.
        with torch.random.fork_rng(devices=[]):
            self.model: TwoStageDetector = load_teacher(cfg, state, checkpoint).requires_grad_(False)
        self.preprocessor = preprocessor
        # Compared once: in a training step it would wait for the GPU.
        self.same_normalisation = normalise_alike(preprocessor, self.model.data_preprocessor)

    def __deepcopy__(self, memo: dict) -> Any:
        """An averaged copy of the student asks the same teacher."""
        return self

    @torch.no_grad()
    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of images (B, 3, H, W) that are normalised the student's way."""
        if next(self.model.parameters()).device != inputs.device:
            self.model.to(inputs.device)
        if not self.same_normalisation:
            inputs = renormalise(inputs, self.preprocessor, self.model.data_preprocessor)
        return self.model.extract_feat(inputs)

    @torch.no_grad()
    def judge_anchors(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness logits and deltas of every anchor, by level, as the RPN gives them."""
        return self.model.rpn_head(x)

    @torch.no_grad()
    def judge_rois(self, x: tuple[Tensor, ...], rois: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (R, 2) and deltas (R, 4) of RoIs (R, 5)."""
        answer = self.model.roi_head._bbox_forward(x, rois)
        return answer['cls_score'], answer['bbox_pred']


def normalise_alike(student: torch.nn.Module, teacher: torch.nn.Module) -> bool:
    """Whether two data preprocessors make the same of an image."""
    same = all(torch.equal(getattr(student, k).cpu(), getattr(teacher, k).cpu()) for k in ('mean', 'std'))
    return same and student._channel_conversion == teacher._channel_conversion


def renormalise(inputs: Tensor, student: torch.nn.Module, teacher: torch.nn.Module) -> Tensor:
    """Bring images normalised by one data preprocessor to what another would make of them.

    Args:
        inputs: (B, 3, H, W), padded after normalisation.
        student: Preprocessor that made them, on their device.
        teacher: Preprocessor to follow, on their device.
    """
    pixels = inputs * student.std + student.mean
    pixels = pixels.flip(1) if student._channel_conversion != teacher._channel_conversion else pixels
    return (pixels - teacher.mean) / teacher.std


@torch.no_grad()
def feature_levels(model: TwoStageDetector) -> list[FeatureLevel]:
    """What feature maps a detector gives to its heads, found out with one small blank image."""
    size, training = 256, model.training
    name = 'neck' if model.with_neck else 'backbone'
    maps = model.eval().extract_feat(next(model.parameters()).new_zeros(1, 3, size, size))
    model.train(training)
    return [FeatureLevel(f'{name}.{i}', x.shape[1], size // x.shape[2]) for i, x in enumerate(maps)]
