"""Relational distillation of embeddings: how similar the student finds people, against how similar the teacher does."""

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor, nn

from ..utils.dist import average


@MODELS.register_module()
class EmbeddingRelationLoss(nn.Module):
    r"""Kullback-Leibler divergence between similarities of the student's and of the teacher's embeddings.

    Row :math:`i` of the batch is compared with all other rows and with a queue of earlier ones. With the student's unit
    vectors :math:`x`, the teacher's :math:`v` and :math:`P^s_i = \mathrm{softmax}_{j \neq i}(x_i \cdot x_j / T)`,
    :math:`P^t_i = \mathrm{softmax}_{j \neq i}(v_i \cdot v_j / T)`, a row costs :math:`\mathrm{KL}(P^t_i \| P^s_i)`.
    The similarity losses of HKD (ACM MM 2023) have this form.

    The queue holds both vectors of earlier rows, the newest first; empty places, which are zero, are left out. In a
    distributed run each process has its own, and the checkpoint has that of the first.

    Args:
        temperature: T > 0; smaller looks at the nearest neighbours.
        queue_size: Rows kept.
        feat_channels: Size D of the vectors, for the queue.
        loss_weight: Factor of the loss.
    """

    student_queue: Tensor
    teacher_queue: Tensor

    def __init__(
        self, temperature: float = 0.1, queue_size: int = 0, feat_channels: int = 256, loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.queue_size = queue_size
        self.loss_weight = loss_weight
        for name in ('student_queue', 'teacher_queue'):
            self.register_buffer(name, torch.zeros(queue_size, feat_channels))

    def forward(self, embeddings: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compute the mean over the rows; the rows enter the queue afterwards.

        Args:
            embeddings: (P, D), unit length; P may be 0.
            targets: (P, D), unit length, the teacher's vectors; get no gradient.
            weight: (P,), factor of each row.

        Returns:
            Scalar loss in fp32, 0 if there is nothing to compare with.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            own, taught = embeddings.float(), targets.detach().float()
            own_others = torch.cat([own, self.student_queue])
            taught_others = torch.cat([taught, self.teacher_queue])
            left_out = torch.eye(len(own), len(own_others), dtype=torch.bool, device=own.device)
            left_out |= (taught_others == 0).all(dim=1)
            # Not minus infinity: where a row has nobody to be compared with, its cost must be 0, not NaN.
            student, teacher = (
                F.log_softmax((rows @ others.t() / self.temperature).masked_fill(left_out, -1e4), dim=1)
                for rows, others in ((own, own_others), (taught, taught_others))
            )
            losses = (teacher.exp() * (teacher - student)).sum(dim=1)
            if self.queue_size:
                self.student_queue = own_others[: self.queue_size].detach()
                self.teacher_queue = taught_others[: self.queue_size].detach()
            return self.loss_weight * average(losses if weight is None else losses * weight)

    def extra_repr(self) -> str:
        """Constants, for the printed objective."""
        return f'temperature={self.temperature}, queue_size={self.queue_size}'
