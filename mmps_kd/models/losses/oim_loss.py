"""Online instance matching: identities against a look-up table and a queue of unlabelled people."""

import warnings
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmps_kd.errors import UserError
from mmps_kd.structures import UNLABELLED

from ..utils.dist import gather_rows, mean_over_ranks

LEFT_OUT = -2
"""Stands for the identity of an embedding that is not finite."""


class MatchRows(torch.autograd.Function):
    """Cross-entropy of the labelled embeddings against table and queue, summed over them.

    Table and queue take no gradient and are updated in place before the backward pass. So the forward pass computes the
    gradient as well: a copy of the rows for the backward pass would cost a quarter of the products.
    """

    @staticmethod
    def forward(
        ctx: Any, embeddings: Tensor, pids: Tensor, lut: Tensor, queue: Tensor, temperature: float, mask_empty: bool
    ) -> Tensor:
        """Sum the losses of embeddings (N, D) with pids (N,), 0..L-1 or -1; lut (L, D), queue (Q, D)."""
        # Unlabelled people, most of CUHK-SYSU's, cost nothing: they need no logits.
        labelled = (pids != UNLABELLED).nonzero().squeeze(1)
        pids = pids[labelled, None]  # (M, 1)
        scaled = embeddings[labelled] / temperature
        logits = torch.cat([scaled @ lut.t(), scaled @ queue.t()], dim=1)  # (M, L + Q)
        if mask_empty:
            empty = torch.cat([(lut == 0).all(dim=1), (queue == 0).all(dim=1)])
            is_target = torch.arange(len(empty), device=pids.device) == pids
            logits.masked_fill_(empty & ~is_target, float('-inf'))
        # In place, and divided by the sum only after the products: passes over (M, L + Q) cost as much as a product.
        largest = logits.amax(dim=1)
        target = logits.gather(1, pids).squeeze(1)
        exponentials = logits.sub_(largest[:, None]).exp_()
        total = exponentials.sum(dim=1)
        loss = (largest + total.log() - target).sum()
        # d loss / d logits = softmax - one-hot(target)
        grad_logits = exponentials.scatter_add_(1, pids, -total[:, None])
        grad_lut, grad_queue = grad_logits.split([len(lut), len(queue)], dim=1)
        grad_labelled = torch.addmm(grad_lut @ lut, grad_queue, queue) / (total * temperature)[:, None]
        ctx.save_for_backward(torch.zeros_like(embeddings).index_copy_(0, labelled, grad_labelled))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple:
        """Scale the gradient that the forward pass computed."""
        (grad_embeddings,) = ctx.saved_tensors
        return grad_loss * grad_embeddings, None, None, None, None, None


@MODELS.register_module()
class OIMLoss(nn.Module):
    r"""Online instance matching loss (Xiao et al., CVPR 2017, equations 1 to 3).

    With look-up table :math:`V` (one unit row an identity), circular queue :math:`U` (the most recent unlabelled
    embeddings) and temperature :math:`\tau`, an embedding :math:`x` of identity :math:`t` costs

    .. math::
        -\log \frac{\exp(v_t^T x / \tau)}{\sum_j \exp(v_j^T x / \tau) + \sum_k \exp(u_k^T x / \tau)}

    and the loss is the mean over the labelled embeddings (0 if there is none). Afterwards, without gradient and in
    batch order, :math:`v_t \leftarrow \gamma v_t + (1 - \gamma) x`, rescaled to unit length, and unlabelled
    embeddings replace the oldest rows of the queue.

    Table, queue and queue head are buffers, kept in fp32 also under autocast. In a distributed run the embeddings of
    all ranks are written, in rank order, so that every rank holds the same table, queue and head, and the mean is
    over the labelled embeddings of all ranks.

    Args:
        num_identities: Rows L of the table.
        feat_channels: Embedding size D.
        queue_size: Rows Q of the queue; 0 for none.
        momentum: :math:`\gamma` in [0, 1], how much of the old row stays.
        temperature: :math:`\tau` > 0.
        mask_empty: Leave rows that were never written out of the softmax. The field's code keeps them as
            negatives of logit 0.
        update_lut: Update the table; False leaves it bit for bit as it is, for a table that comes from a teacher.
            The queue is filled either way.
        loss_weight: Factor of the loss.
    """

    lut: Tensor
    queue: Tensor
    queue_head: Tensor

    def __init__(
        self,
        num_identities: int,
        feat_channels: int = 256,
        queue_size: int = 5000,
        momentum: float = 0.5,
        temperature: float = 1 / 30,
        mask_empty: bool = False,
        update_lut: bool = True,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.momentum = momentum
        self.temperature = temperature
        self.mask_empty = mask_empty
        self.update_lut = update_lut
        self.loss_weight = loss_weight
        self.register_buffer('lut', torch.zeros(num_identities, feat_channels))
        self.register_buffer('queue', torch.zeros(queue_size, feat_channels))
        self.register_buffer('queue_head', torch.zeros((), dtype=torch.long))

    @property
    def num_identities(self) -> int:
        """Rows of the look-up table."""
        return len(self.lut)

    def reset(self) -> None:
        """Empty table and queue, as before the first iteration."""
        for buffer in (self.lut, self.queue, self.queue_head):
            buffer.zero_()

    def forward(self, embeddings: Tensor, pids: Tensor) -> Tensor:
        """Compute the loss, then update table and queue (in training mode only).

        Args:
            embeddings: (N, D), unit length, of boxes that hold a person.
            pids: (N,) int64, 0..L-1 or -1 for unlabelled people.

        Returns:
            Scalar loss in fp32.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings = embeddings.float()
            loss = MatchRows.apply(embeddings, pids, self.lut, self.queue, self.temperature, self.mask_empty)
            loss = loss / mean_over_ranks((pids != UNLABELLED).sum(), pids.device)
            if self.training:
                self.update(embeddings, pids)
        return self.loss_weight * loss

    @torch.no_grad()
    def update(self, embeddings: Tensor, pids: Tensor) -> None:
        """Write embeddings into table and queue, as if one after another in batch order, rank by rank.

        Embeddings that are not finite are left out: a row would never recover.

        Args:
            embeddings: (N, D), unit length.
            pids: (N,) int64, -1 for unlabelled people.
        """
        embeddings, pids = gather_rows(embeddings), gather_rows(pids)
        finite = embeddings.sum(dim=1).isfinite()  # a sum with NaN or infinity in it is not finite
        # Which rows go where is found on the host, so that it waits for a GPU once and not in each round.
        pids = torch.where(finite, pids, LEFT_OUT)
        known = torch.cat([pids, self.queue_head[None]]).cpu().numpy()
        pids, head = known[:-1], int(known[-1])
        if self.update_lut:
            rows = np.flatnonzero(pids >= 0)
            self._update_lut(embeddings, rows, pids[rows])
        if len(self.queue) > 0:
            self._update_queue(embeddings, np.flatnonzero(pids == UNLABELLED), head)

    def _update_lut(self, embeddings: Tensor, rows: np.ndarray, pids: np.ndarray) -> None:
        # Round r writes the r-th embedding of every identity: rows of the table are distinct within a round, and each
        # identity sees its embeddings in batch order, so the result is that of the sequential definition.
        occurrence = np.tril(pids[:, None] == pids, -1).sum(axis=1)
        for r in range(occurrence.max(initial=-1) + 1):
            source, target = (self._to_device(index[occurrence == r]) for index in (rows, pids))
            mixed = self.momentum * self.lut.index_select(0, target)
            mixed += (1 - self.momentum) * embeddings.index_select(0, source)
            self.lut.index_copy_(0, target, F.normalize(mixed, dim=1))

    def _update_queue(self, embeddings: Tensor, rows: np.ndarray, head: int) -> None:
        size = len(self.queue)
        positions = (head + np.arange(len(rows))) % size
        newest, positions = (self._to_device(index[-size:]) for index in (rows, positions))
        self.queue.index_copy_(0, positions, embeddings.index_select(0, newest))
        self.queue_head.fill_((head + len(rows)) % size)

    def _to_device(self, index: np.ndarray) -> Tensor:
        return torch.from_numpy(index).to(self.lut.device, non_blocking=True)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        """Refuse a table of another embedding size; start afresh where identities or queue size differ."""
        for name in ('lut', 'queue'):
            loaded, own = state_dict.get(prefix + name), getattr(self, name)
            if loaded is None or loaded.shape == own.shape:
                continue
            if loaded.shape[1] != own.shape[1]:
                raise UserError(
                    f'the checkpoint has embeddings of size {loaded.shape[1]}, the config asks for {own.shape[1]}: '
                    'set feat_channels of the re-id head and of OIMLoss to the same size as in the checkpoint'
                )
            warnings.warn(
                f'{prefix}{name} of the checkpoint has {len(loaded)} rows, the config {len(own)}: it starts afresh',
                stacklevel=2,
            )
            state_dict[prefix + name] = own.detach().clone()
            if name == 'queue':
                state_dict[prefix + 'queue_head'] = self.queue_head.detach().clone()
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Sizes and constants, for the printed model."""
        return (
            f'num_identities={len(self.lut)}, feat_channels={self.lut.shape[1]}, queue_size={len(self.queue)}, '
            f'momentum={self.momentum}, temperature={self.temperature:.4g}, mask_empty={self.mask_empty}, '
            f'update_lut={self.update_lut}'
        )
