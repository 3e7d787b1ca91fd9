"""Imitation of the teacher's feature map, over the whole map or near people."""

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from mmps_kd.errors import UserError, check_choice

from ..utils.dist import mean_over_ranks

DISTANCES = {'l2': torch.square, 'l1': torch.abs}


def _conv1x1(student_channels: int, teacher_channels: int) -> nn.Module:
    if student_channels == teacher_channels:
        return nn.Identity()
    return nn.Conv2d(student_channels, teacher_channels, 1)


def _conv3x3_relu(student_channels: int, teacher_channels: int) -> nn.Module:
    conv = nn.Conv2d(student_channels, teacher_channels, 3, padding=1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, nn.ReLU())


ADAPTERS = {'conv1x1': _conv1x1, 'conv3x3_relu': _conv3x3_relu}
DEFAULT_ADAPTERS = {'hint': 'conv1x1', 'fine_grained': 'conv3x3_relu'}


@MODELS.register_module()
class FeatureImitationLoss(nn.Module):
    r"""Distance between the adapted features of the student and those of the teacher.

    With student :math:`S`, teacher :math:`T`, adaptation layer :math:`A`, :math:`d` the square (``l2``) or the
    absolute value (``l1``) and :math:`I` the mask of :math:`N_p` cells, counted over the whole batch, mode ``hint``
    (Chen et al., NIPS 2017) is the mean over the elements of these cells and mode ``fine_grained`` (Wang et al.,
    CVPR 2019) half the sum over channels, averaged over the cells:

    .. math::
        L_{hint} = \frac{1}{C N_p} \sum_{hw} I \sum_c d(A(S) - T), \quad
        L_{fine} = \frac{1}{2 N_p} \sum_{hw} I \sum_c d(A(S) - T)

    Without a mask every cell counts; without a masked cell the loss is 0.

    The adaptation layer is part of the loss and trained with the student. Its weights are drawn apart from the
    global random stream: a student built next has the weights that it has without distillation.

    Args:
        student_channels: Channels of :math:`S`.
        teacher_channels: Channels C of :math:`T`.
        mode: ``hint`` or ``fine_grained``.
        distance: ``l2`` or ``l1``.
        adapter: ``conv1x1`` (the identity where the channels agree) or ``conv3x3_relu`` (weights of standard
            deviation 0.01, bias 0). By default the former for ``hint``, the latter for ``fine_grained``, as published.
        warmup_iters: The loss is 0 in the first so many training iterations (Wang et al.: 400). They are counted in
            a buffer, so that a resumed run goes on where it was.
        loss_weight: Factor of the loss (Wang et al.: 0.01).

    Raises:
        UserError: If ``mode``, ``distance`` or ``adapter`` does not exist.
    """

    iteration: Tensor

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        mode: str = 'hint',
        distance: str = 'l2',
        adapter: str | None = None,
        warmup_iters: int = 0,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_choice('mode', mode, DEFAULT_ADAPTERS)
        check_choice('distance', distance, DISTANCES)
        adapter = adapter or DEFAULT_ADAPTERS[mode]
        check_choice('adapter', adapter, ADAPTERS)
        self.mode = mode
        self.distance = distance
        self.warmup_iters = warmup_iters
        self.loss_weight = loss_weight
        self.summary = f'{mode}, {distance}, {adapter} {student_channels}->{teacher_channels}'
        with torch.random.fork_rng(devices=[]):
            self.adapter = ADAPTERS[adapter](student_channels, teacher_channels)
        self.register_buffer('iteration', torch.zeros((), dtype=torch.long))

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the loss and, in training mode, count the iteration.

        Args:
            student: (B, C_s, H, W).
            teacher: (B, C_t, H, W), gets no gradient.
            mask: (B, H, W) bool, the cells that count; all of them if None.

        Returns:
            Scalar loss in fp32.

        Raises:
            UserError: If the maps differ in size.
        """
        if student.shape[2:] != teacher.shape[2:]:
            raise UserError(
                f'the features of student {tuple(student.shape)} and teacher {tuple(teacher.shape)} differ in height '
                'or width: compare levels of the same stride'
            )
        with torch.autocast(student.device.type, enabled=False):
            difference = self.adapter(student.float()) - teacher.detach().float()
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

    def __repr__(self) -> str:
        """One line, the adaptation layer by its name."""
        return f'{type(self).__name__}({self.summary})'
