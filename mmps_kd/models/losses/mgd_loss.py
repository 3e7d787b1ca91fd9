"""MGD: the teacher's features generated from part of the student's."""

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.dist import get_rank
from torch import Tensor, nn

from ..utils.counter import Counter


@MODELS.register_module()
class MGDLoss(nn.Module):
    r"""Masked generative distillation (Yang et al., ECCV 2022).

    Cells of the student's map are set to 0 at random, and two 3x3 convolutions with ReLU between them generate the
    teacher's map from the rest. The loss is the squared error, summed over channels and cells and averaged over images.

    The cells are drawn from a generator of the loss's own: the student's random numbers stay those of a plain run. It
    is set anew for each call from ``seed``, the rank and the number of the call, which the checkpoint keeps.

    Args:
        channels: C of the teacher's map.
        masked: Share of cells set to 0; 0.45 for two-stage detectors in the paper.
        seed: Of the generator.
        loss_weight: Factor of the loss; 5e-7 for two-stage detectors in the paper.
    """

    def __init__(self, channels: int = 256, masked: float = 0.45, seed: int = 0, loss_weight: float = 5e-7) -> None:
        super().__init__()
        self.masked, self.seed, self.loss_weight = masked, seed, loss_weight
        self.calls = Counter()
        self.generation = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            student: (B, C, H, W), adapted.
            teacher: (B, C, H, W), gets no gradient.

        Returns:
            Scalar loss in fp32.
        """
        # Large steps between seeds: neighbouring ones must not give neighbouring streams on any rank.
        seed = (self.seed * 1_000_003 + get_rank()) * 1_000_003 + self.calls.value
        generator = torch.Generator(student.device).manual_seed(seed)
        self.calls.value += self.training
        kept = (
            torch.rand(len(student), 1, *student.shape[2:], device=student.device, generator=generator) >= self.masked
        )
        generated = self.generation(student.float() * kept)
        return self.loss_weight * F.mse_loss(generated, teacher.detach().float(), reduction='sum') / len(student)

    def extra_repr(self) -> str:
        """Constants, for the printed objective."""
        return f'masked={self.masked}'
