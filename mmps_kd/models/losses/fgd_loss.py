"""FGD: where the teacher looks, near people and elsewhere, and how cells relate to the whole image."""

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class FGDLoss(nn.Module):
    r"""Focal and global distillation (Yang et al., CVPR 2022); DDPS calls the same loss DFD.

    With the teacher's attention over N cells, :math:`A_S = N \, \mathrm{softmax}(\mathrm{mean}_c |F| / \tau)`, and over
    C channels, :math:`A_C = C \, \mathrm{softmax}(\mathrm{mean}_{hw} |F| / \tau)`, and the weights :math:`m` of
    people's cells and :math:`n` of background cells (``mask='boxes'``), an image costs

    .. math::
        \sum (\alpha m + \beta n) A_S A_C (T - S)^2 + \gamma (|A_S^T - A_S^S|_1 + |A_C^T - A_C^S|_1)
        + \lambda \|R(T) - R(S)\|^2 .

    :math:`R` is a global context block of its own for either side, trained with the student. The loss is the mean over
    images. It is that of the published code, but for padding, which has no part in any sum or mean here.

    Args:
        channels: C of the teacher's map.
        alpha: Weight of people's cells; the defaults of all weights are DDPS's.
        beta: Weight of background cells.
        gamma: Weight of the attention.
        global_weight: :math:`\lambda`.
        temperature: :math:`\tau` > 0.
        loss_weight: Factor of the sum.
    """

    def __init__(
        self,
        channels: int = 256,
        alpha: float = 5e-5,
        beta: float = 2.5e-5,
        gamma: float = 5e-5,
        global_weight: float = 5e-7,
        temperature: float = 0.5,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.alpha, self.beta, self.gamma, self.global_weight = alpha, beta, gamma, global_weight
        self.temperature, self.loss_weight = temperature, loss_weight
        self.student_context, self.teacher_context = GlobalContext(channels), GlobalContext(channels)

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            student: (B, C, H, W), adapted.
            teacher: (B, C, H, W), gets no gradient.
            mask: (B, 2, H, W), weights of people's cells and of background cells; both 0 in padding.

        Returns:
            Scalar loss in fp32.
        """
        student, teacher = student.float(), teacher.detach().float()
        people, background = mask.unbind(dim=1)
        inside = people + background > 0
        (own_cells, own_channels), (cells, channels) = (self._attention(x, inside) for x in (student, teacher))
        difference = (teacher - student).square()
        weights = self.alpha * people + self.beta * background
        focal = torch.einsum('bchw,bhw,bc->', difference, weights * cells, channels)
        attention = (cells - own_cells).abs().sum() + (channels - own_channels).abs().sum()
        relation = self.teacher_context(teacher, inside) - self.student_context(student, inside)
        relation = (relation.square() * inside[:, None]).sum()
        total = focal + self.gamma * attention + self.global_weight * relation
        return self.loss_weight * total / len(student)

    def _attention(self, x: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """Attention over cells (B, H, W), 0 in padding, and over channels (B, C)."""
        strength = x.abs()
        count = inside.sum(dim=(1, 2))
        by_cell = (strength.mean(dim=1) / self.temperature).masked_fill(~inside, -torch.inf)
        cells = count[:, None, None] * by_cell.flatten(1).softmax(dim=1).view_as(by_cell)
        by_channel = (strength * inside[:, None]).sum(dim=(2, 3)) / count[:, None]
        return cells, x.shape[1] * (by_channel / self.temperature).softmax(dim=1)

    def extra_repr(self) -> str:
        """Constants, for the printed objective."""
        return (
            f'alpha={self.alpha:g}, beta={self.beta:g}, gamma={self.gamma:g}, lambda={self.global_weight:g}, '
            f'temperature={self.temperature:g}'
        )


class GlobalContext(nn.Module):
    """A global context block (Cao et al., 2019): adds to each cell what a weighted mean of all cells says.

    Args:
        channels: C; the bottleneck has half as many.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Conv2d(channels, 1, 1)
        nn.init.kaiming_normal_(self.weight.weight, mode='fan_in')
        self.transform = nn.Sequential(
            nn.Linear(channels, channels // 2),
            nn.LayerNorm(channels // 2),
            nn.ReLU(),
            nn.Linear(channels // 2, channels),
        )
        # At the start the block adds nothing.
        nn.init.zeros_(self.transform[-1].weight)
        nn.init.zeros_(self.transform[-1].bias)

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape; the mean is over the cells ``inside`` (B, H, W)."""
        weights = self.weight(x)[:, 0].masked_fill(~inside, -torch.inf).flatten(1).softmax(dim=1)
        context = torch.einsum('bcn,bn->bc', x.flatten(2), weights)
        return x + self.transform(context)[:, :, None, None]
