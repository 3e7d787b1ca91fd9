"""Box regression bounded by the teacher: no cost where the student is better already."""

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from ..utils.dist import average


@MODELS.register_module()
class BoundedRegressionLoss(nn.Module):
    r"""Squared error to the truth of those rows in which the student does not beat the teacher (Chen et al., 2017).

    With regressions :math:`R_s, R_t`, target :math:`y` and margin :math:`m`, a row costs :math:`\|R_s - y\|^2` if
    :math:`\|R_s - y\|^2 + m > \|R_t - y\|^2`, else 0. The teacher's regression is no target, since it can point the
    wrong way; it only decides which rows count.

    Args:
        margin: m, by how much the student must beat the teacher, in squared units of the regressions.
        loss_weight: Factor of the loss, :math:`\nu` beside the ordinary regression loss.
    """

    def __init__(self, margin: float = 0.0, loss_weight: float = 0.5) -> None:
        super().__init__()
        self.margin = margin
        self.loss_weight = loss_weight

    def forward(
        self, student: Tensor, teacher: Tensor, target: Tensor, avg_factor: float | Tensor | None = None
    ) -> Tensor:
        """Compute the loss over positive boxes or anchors.

        Args:
            student: (N, 4) box deltas; N may be 0.
            teacher: (N, 4) for the same boxes or anchors, gets no gradient.
            target: (N, 4) encoded true boxes, gets no gradient.
            avg_factor: What the sum is divided by, at least 1; N if None.

        Returns:
            Scalar loss in fp32.
        """
        with torch.autocast(student.device.type, enabled=False):
            target = target.detach().float()
            student_error = (student.float() - target).square().sum(dim=1)
            teacher_error = (teacher.float() - target).square().sum(dim=1)
            # A comparison passes no gradient on, so the teacher gets none.
            counts = student_error + self.margin > teacher_error
            return self.loss_weight * average(student_error * counts, avg_factor)

    def extra_repr(self) -> str:
        """The margin, for the printed objective."""
        return f'margin={self.margin}'
