"""Identities from a teacher: the student's OIM table is the teacher's, and stays."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor

from mmps_kd.errors import UserError
from mmps_kd.models.losses import OIMLoss

from .lut_file import LookUpTable, check_dim, check_lut, load_lut


@MODELS.register_module()
class LUTDistiller:
    """Give a student's OIM loss the ID vectors of a teacher as its look-up table.

    The table is set before training and not updated, so that identification becomes a fixed target: the embeddings
    are drawn to where the teacher's are. The rows stand in OIMLoss's own buffer: nothing is added to a training step
    or to the checkpoint. :class:`LUTHook` fills it again where a run starts from loaded weights, which bring a table
    of their own; a resumed run goes on with the table of its checkpoint.

    It is no module and holds no state: whether the table is frozen follows from the epoch.

    Args:
        lut_file: The table, written by ``tools/extract_lut.py``.
        thaw_epoch: From this epoch on (counted from 0) the table is updated as in plain OIM; 0: the teacher's table
            is the start only; None: never.
        use_queue: Keep the queue of unlabelled people, filled with the student's embeddings, as in plain OIM;
            otherwise the labelled identities are the only classes.
        projection: How a table of another dimension is brought to the student's: ``dict(type='pca')`` for
            :func:`project_pca`; None: it must have the student's dimension.
    """

    def __init__(
        self,
        lut_file: str,
        thaw_epoch: int | None = None,
        use_queue: bool = True,
        projection: dict | None = None,
    ) -> None:
        if projection not in (None, dict(type='pca')):
            raise UserError(f"LUTDistiller: projection must be None or dict(type='pca'), not {projection}")
        self.table = load_lut(lut_file)
        self.thaw_epoch = thaw_epoch
        self.use_queue = use_queue
        self.projection = projection

    def attach(self, oim_loss: OIMLoss) -> None:
        """Fill the loss's table with the teacher's rows and freeze it.

        Args:
            oim_loss: The student's loss.

        Raises:
            UserError: If number of rows or dimension differ.
        """
        num_identities, dim = oim_loss.lut.shape
        if self.projection is not None:
            self.table = project_pca(self.table, dim)
        check_dim(self.table, dim)
        if len(self.table.rows) != num_identities:
            raise UserError(
                f'{self.table.file} has {len(self.table.rows)} identities, the OIM table {num_identities} rows: set '
                f'num_identities={len(self.table.rows)} in the config of OIMLoss'
            )
        if not self.use_queue:
            oim_loss.queue = oim_loss.queue[:0].clone()
        self.oim_loss = oim_loss
        self.fill()
        self.set_epoch(0)

    def fill(self) -> None:
        """Write the teacher's rows into the loss's table."""
        self.oim_loss.lut.copy_(self.table.rows)

    def set_epoch(self, epoch: int) -> None:
        """Freeze or thaw the table for an epoch, counted from 0."""
        self.oim_loss.update_lut = self.thaw_epoch is not None and epoch >= self.thaw_epoch

    def check(self, metainfo: dict) -> None:
        """Compare the table with the training set's ``metainfo``.

        Raises:
            UserError: If they do not belong together.
        """
        check_lut(self.table, metainfo['dataset_name'], metainfo['identities'], self.oim_loss.lut.shape[1])

    def __repr__(self) -> str:
        """Name the table and how long it is frozen."""
        frozen = 'frozen' if self.thaw_epoch is None else f'frozen until epoch {self.thaw_epoch}'
        size = f'{len(self.table.rows)} x {self.table.dim}'
        return f'{type(self).__name__}({self.table.file}: {size} from {self.table.source}, {frozen})'


def project_pca(table: LookUpTable, dim: int) -> LookUpTable:
    """Bring a table to another dimension by a fixed linear map, computed from the table alone.

    The rows are projected onto their ``dim`` leading right singular vectors, uncentred: of all linear maps this
    keeps their inner products best, and those are what search compares. More dimensions than there are singular
    vectors are filled with zeros. Each vector's largest entry is made positive, so that the map is the same
    everywhere.

    Args:
        table: Rows (L, D).
        dim: New size of the vectors.

    Returns:
        The table with rows (L, dim) of unit length.

    Raises:
        UserError: If a row has nothing in the directions kept.
    """
    rows = table.rows.double()
    basis = torch.linalg.svd(rows, full_matrices=False).Vh[:dim]
    basis = basis * _signs_of_largest(basis)
    projected = F.pad(rows @ basis.t(), (0, dim - len(basis)))
    lost = (projected.norm(dim=1) < 1e-6).nonzero()
    if len(lost):
        raise UserError(
            f'{table.file}: row {int(lost[0])} vanishes in the projection to {dim} dimensions: take a larger '
            'feat_channels'
        )
    return replace(table, rows=F.normalize(projected, dim=1).float())


def _signs_of_largest(basis: Tensor) -> Tensor:
    """(k, 1) sign of the entry of largest magnitude in each row."""
    return basis.gather(1, basis.abs().argmax(dim=1, keepdim=True)).sign()
