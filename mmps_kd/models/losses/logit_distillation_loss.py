"""Soft targets: the student's class probabilities against the teacher's."""

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor, nn

from mmps_kd.errors import check_choice

from ..utils.dist import average


@MODELS.register_module()
class LogitDistillationLoss(nn.Module):
    r"""Cross entropy or Kullback-Leibler divergence to the teacher's softened probabilities.

    With :math:`P = \mathrm{softmax}(z / T)`, mode ``ce`` (Chen et al., NIPS 2017) costs
    :math:`-T^2 \sum_c w_c P_t(c) \log P_s(c)` a row, where the background, the last class as in mmdet's softmax
    heads, has a weight of its own; mode ``kl`` costs :math:`T^2 \sum_c P_t(c) (\log P_t(c) - \log P_s(c))`, which
    is 0 for equal logits. One logit alone is a sigmoid objectness :math:`z`, as of mmdet's RPN: the two classes
    object and background with logits :math:`(z, 0)`.

    Args:
        temperature: T > 0, larger is softer; Chen et al. found 1 best for detection.
        mode: ``ce`` or ``kl``.
        background_weight: :math:`w_c` of the background in mode ``ce``, the other classes have 1. Mode ``kl`` has
            no class weights.
        loss_weight: Factor of the loss.

    Raises:
        UserError: If ``mode`` does not exist.
    """

    def __init__(
        self, temperature: float = 1.0, mode: str = 'ce', background_weight: float = 1.5, loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        check_choice('mode', mode, ['ce', 'kl'])
        self.temperature = temperature
        self.mode = mode
        self.background_weight = background_weight
        self.loss_weight = loss_weight

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
    ) -> Tensor:
        """Compute the loss over rows that are boxes or anchors.

        Args:
            student_logits: (N, K), background last; K = 1 for sigmoid objectness. N may be 0.
            teacher_logits: (N, K) for the same boxes or anchors, gets no gradient.
            weight: (N,), factor of each row.
            avg_factor: What the sum is divided by, at least 1; N if None.

        Returns:
            Scalar loss in fp32.
        """
        with torch.autocast(student_logits.device.type, enabled=False):
            student = self._log_probabilities(student_logits)
            teacher = self._log_probabilities(teacher_logits.detach())
            losses = self.temperature**2 * self._per_row(student, teacher)
            if weight is not None:
                losses = losses * weight.float()
            return self.loss_weight * average(losses, avg_factor)

    def _log_probabilities(self, logits: Tensor) -> Tensor:
        logits = logits.float()
        if logits.shape[1] == 1:
            logits = torch.cat([logits, torch.zeros_like(logits)], dim=1)
        return F.log_softmax(logits / self.temperature, dim=1)

    def _per_row(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.mode == 'kl':
            return (teacher.exp() * (teacher - student)).sum(dim=1)
        class_weight = torch.ones_like(teacher)
        class_weight[:, -1] = self.background_weight
        return -(class_weight * teacher.exp() * student).sum(dim=1)

    def extra_repr(self) -> str:
        """Mode and constants, for the printed objective."""
        background = f', background_weight={self.background_weight}' if self.mode == 'ce' else ''
        return f'{self.mode}, temperature={self.temperature}{background}'
