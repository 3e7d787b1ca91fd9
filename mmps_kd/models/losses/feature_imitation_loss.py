"""Imitation of the teacher's feature map, over the whole map or near people."""

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from mmps_kd.errors import UserError, check_choice

from ..utils.dist import mean_over_ranks

DISTANCES = {'l2': torch.square, 'l1': torch.abs}
MODES = ('hint', 'fine_grained')


@MODELS.register_module()
class FeatureImitationLoss(nn.Module):
    r"""Distance between the adapted features of the student and those of the teacher.

    With adapted student :math:`S`, teacher :math:`T`, :math:`d` the square (``l2``) or the absolute value (``l1``) and
    :math:`I` the mask of :math:`N_p` cells, counted over the whole batch, mode ``hint`` (Chen et al., NIPS 2017) is the
    mean over the elements of these cells and mode ``fine_grained`` (Wang et al., CVPR 2019) half the sum over channels,
    averaged over the cells:

    .. math::
        L_{hint} = \frac{1}{C N_p} \sum_{hw} I \sum_c d(S - T), \quad
        L_{fine} = \frac{1}{2 N_p} \sum_{hw} I \sum_c d(S - T)

    Without a mask every cell counts, which mode ``fine_grained`` does not allow; without a masked cell the loss is 0.

    Args:
        mode: ``hint`` or ``fine_grained``.
        distance: ``l2`` or ``l1``.
        warmup_iters: The loss is 0 in the first so many training iterations (Wang et al.: 400). They are counted in
            a buffer, so that a resumed run goes on where it was.
        loss_weight: Factor of the loss (Wang et al.: 0.01).

    Raises:
        UserError: If ``mode`` or ``distance`` does not exist.
    """

    iteration: Tensor

    def __init__(
        self, mode: str = 'hint', distance: str = 'l2', warmup_iters: int = 0, loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        check_choice('mode', mode, MODES)
        check_choice('distance', distance, DISTANCES)
        self.mode = mode
        self.distance = distance
        self.warmup_iters = warmup_iters
        self.loss_weight = loss_weight
        self.register_buffer('iteration', torch.zeros((), dtype=torch.long))

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the loss and, in training mode, count the iteration.

        Args:
            student: (B, C, H, W), adapted.
            teacher: (B, C, H, W), gets no gradient.
            mask: (B, H, W) bool, the cells that count; all of them if None.

        Returns:
            Scalar loss in fp32.

        Raises:
            UserError: If the maps differ in size, or mode ``fine_grained`` gets no mask.
        """
        if mask is None and self.mode == 'fine_grained':
            raise UserError("mode='fine_grained' compares near people alone: add mask='fine_grained' beside the loss")
        if student.shape[2:] != teacher.shape[2:]:
            raise UserError(
                f'the features of student {tuple(student.shape)} and teacher {tuple(teacher.shape)} differ in height '
                'or width: compare levels of the same stride'
            )
        with torch.autocast(student.device.type, enabled=False):
            difference = student.float() - teacher.detach().float()
            per_cell = DISTANCES[self.distance](difference).sum(dim=1)
            mask = torch.ones_like(per_cell, dtype=torch.bool) if mask is None else mask
            count = 2 * mask.sum() if self.mode == 'fine_grained' else difference.shape[1] * mask.sum()
            loss = (per_cell * mask).sum() / mean_over_ranks(count, count.device)
        return self._ramp() * self.loss_weight * loss

    def _ramp(self) -> Tensor:
        """0 while warming up, then 1."""
        ramp = (self.iteration >= self.warmup_iters).float()
        if self.training:
            self.iteration += 1
        return ramp

    def extra_repr(self) -> str:
        """Mode and distance, for the printed objective."""
        return f'{self.mode}, {self.distance}'
