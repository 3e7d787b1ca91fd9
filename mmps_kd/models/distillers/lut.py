"""Look-up table (LUT) of a teacher's ID features, of identities or of boxes: file, projection, and how it is used."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mmps_kd.errors import UserError
from mmps_kd.models.losses import OIMLoss

FORMAT_VERSION = '1'
UNIT_TOLERANCE = 1e-3
_TEXTS = ('dataset', 'pids_sha256', 'source', 'teacher_config', 'teacher_sha256')


@dataclass(frozen=True, eq=False)
class LookUpTable:
    """One ID vector for each training identity, or for each annotated box of the training set.

    Attributes:
        rows: (L, D) float32 of unit length, in the order of the dataset's ``metainfo['identities']``, or of its boxes.
        dataset: The dataset's ``metainfo['dataset_name']``.
        pids_sha256: Hash of the identities in row order, see :func:`identities_sha256`; of a table of boxes that of
            :func:`~mmps_kd.datasets.boxes_sha256`.
        source: What the rows were made from: ``'memory'``, ``'boxes'``, ``'features'`` or ``'model'``.
        teacher_config: Name of the teacher's config, of the features file, or of the re-identification network.
        teacher_sha256: Hash of the teacher's weights; empty where the vectors were made elsewhere.
        level: What a row stands for: ``'identity'`` or ``'box'``.
        mirrored: (L, D) as ``rows``, of mirrored crops, of a table of boxes; None without.
        file: Where it was read from, for messages.
    """

    rows: Tensor
    dataset: str
    pids_sha256: str
    source: str
    teacher_config: str
    teacher_sha256: str
    level: str = 'identity'
    mirrored: Tensor | None = None
    file: str = 'the look-up table'

    @property
    def dim(self) -> int:
        """Size D of the ID vectors."""
        return self.rows.shape[1]


def identities_sha256(identities: Sequence[int | str]) -> str:
    """Hash of identities, names or numbers, in this order."""
    return hashlib.sha256(json.dumps(list(identities)).encode()).hexdigest()


def save_lut(path: str | os.PathLike, table: LookUpTable) -> None:
    """Write a table.

    Args:
        path: File to write; its folder must exist.
        table: What to write.

    Raises:
        UserError: If a row is not finite or not of unit length.
    """
    _check_rows(table)
    metadata = {key: getattr(table, key) for key in _TEXTS}
    metadata.update(format_version=FORMAT_VERSION, dim=str(table.dim), level=table.level)
    tensors = {'lut': table.rows.contiguous()}
    if table.mirrored is not None:
        tensors['mirrored'] = table.mirrored.contiguous()
    with open(path, 'wb') as file:
        file.write(save(tensors, metadata))


def load_lut(path: str | os.PathLike) -> LookUpTable:
    """Read a table and check it in itself; :func:`check_lut` compares it with a dataset.

    Raises:
        UserError: If the file is missing, damaged, of another format version or incomplete, or a row is not finite,
            zero or not of unit length.
    """
    metadata, rows, mirrored = _read(str(path))
    version = metadata.get('format_version')
    if version != FORMAT_VERSION:
        found = 'lacks the metadata format_version' if version is None else f'has format version {version!r}'
        raise UserError(
            f'{path} {found}, this release reads {FORMAT_VERSION}: write it again with tools/extract_lut.py'
        )
    missing = [key for key in (*_TEXTS, 'dim') if key not in metadata]
    if missing:
        raise UserError(f'{path} lacks the metadata {missing[0]}: write it again with tools/extract_lut.py')
    if rows is None or rows.dtype != torch.float32 or rows.shape[1:] != (_number(metadata['dim']),):
        found = 'none' if rows is None else f'{tuple(rows.shape)} of {rows.dtype}'
        raise UserError(f"{path} needs a float32 tensor 'lut' of size (L, {metadata['dim']}), it has {found}")
    # Files of the first release name no level.
    texts = {key: metadata[key] for key in _TEXTS} | dict(level=metadata.get('level', 'identity'))
    table = LookUpTable(rows, mirrored=mirrored, file=str(path), **texts)
    _check_rows(table)
    return table


def check_lut(table: LookUpTable, dataset_name: str, identities: Sequence[int | str], dim: int) -> None:
    """Check that a table fits a training set and a student.

    Args:
        table: The teacher's table.
        dataset_name: ``metainfo['dataset_name']`` of the training set.
        identities: Its ``metainfo['identities']``.
        dim: Embedding size of the student.

    Raises:
        UserError: If dataset, number of identities, an identity or its place, or the dimension differs.
    """
    if table.dataset != dataset_name:
        raise UserError(
            f'{table.file} is a table for {table.dataset}, the training set is {dataset_name}: extract another'
        )
    if len(table.rows) != len(identities):
        raise UserError(
            f'{table.file} has {len(table.rows)} identities, the training set {len(identities)}: extract it from the '
            'annotations that you train on'
        )
    if table.pids_sha256 != identities_sha256(identities):
        raise UserError(
            f'{table.file} has other identities (pids_sha256) than the training set, or another order: extract it from '
            'the annotations that you train on'
        )
    check_dim(table, dim)


def check_dim(table: LookUpTable, dim: int) -> None:
    """Check that a table has the student's embedding size.

    Raises:
        UserError: If it has another one.
    """
    if table.dim != dim:
        raise UserError(
            f'{table.file} has vectors of size {table.dim}, the student embeds in {dim}: set feat_channels of its '
            "re-id head, or configure a projection: projection=dict(type='pca')"
        )


def _read(path: str) -> tuple[dict[str, str], Tensor | None, Tensor | None]:
    try:
        with safe_open(path, 'pt') as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return file.metadata() or {}, tensors.get('lut'), tensors.get('mirrored')
    except FileNotFoundError:
        raise UserError(f'there is no look-up table {path}: write it with tools/extract_lut.py') from None
    except (OSError, SafetensorError) as error:
        raise UserError(f'{path} is damaged or no safetensors file: {str(error).splitlines()[0]}') from None


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else -1


def _check_rows(table: LookUpTable) -> None:
    norms = table.rows.norm(dim=1)
    for fault, bad in (
        ('is not finite', ~norms.isfinite()),
        ('is zero', norms == 0),
        ('is not of unit length', (norms - 1).abs() > UNIT_TOLERANCE),
    ):
        if bad.any():
            raise UserError(
                f'{table.file}: row {int(bad.nonzero()[0])} {fault}: write it again with tools/extract_lut.py'
            )


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
        check_projection(projection)
        self.table = load_lut(lut_file)
        require_level(self.table, 'identity')
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


class BoxLUT:
    """The teacher's vector of every annotated box, labelled or not, as target of losses at ``roi.embedding``.

    Args:
        lut_file: The table, written by ``tools/extract_lut.py --level box``.
        dim: Embedding size D of the student.
        projection: As for :class:`LUTDistiller`.

    Raises:
        UserError: If the table is of identities, or has another dimension.
    """

    def __init__(self, lut_file: str, dim: int, projection: dict | None = None) -> None:
        check_projection(projection)
        self.table = load_lut(lut_file)
        require_level(self.table, 'box')
        if projection is not None:
            self.table = project_pca(self.table, dim)
        check_dim(self.table, dim)

    def check(self, dataset_name: str, num_boxes: int, boxes_sha256: str) -> None:
        """Compare the table with the training set.

        Raises:
            UserError: If it is of another data set, or of other boxes.
        """
        found = (self.table.dataset, len(self.table.rows), self.table.pids_sha256)
        if found != (dataset_name, num_boxes, boxes_sha256):
            raise UserError(
                f'{self.table.file} is a table of {found[1]} boxes of {found[0]}, the training set has {num_boxes} '
                f'boxes of {dataset_name}{", others" if found[:2] == (dataset_name, num_boxes) else ""}: extract it '
                'from the annotations that you train on'
            )

    def crop_rows(self) -> Tensor:
        """(2 L, D): the vector of each box, followed by that of its mirrored crop, or by itself again without one."""
        mirrored = self.table.rows if self.table.mirrored is None else self.table.mirrored
        return torch.stack([self.table.rows, mirrored], dim=1).flatten(0, 1)


def check_projection(projection: dict | None) -> None:
    """Refuse a projection that does not exist."""
    if projection not in (None, dict(type='pca')):
        raise UserError(f"look-up table: projection must be None or dict(type='pca'), not {projection}")


def require_level(table: LookUpTable, level: str) -> None:
    """Refuse a table of boxes where one of identities is needed, and the other way round."""
    if table.level != level:
        raise UserError(f'{table.file} has a row for each {table.level}: extract it with --level {level}')


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
    mirrored = table.mirrored
    if mirrored is not None:
        mirrored = F.normalize(F.pad(mirrored.double() @ basis.t(), (0, dim - len(basis))), dim=1).float()
    return replace(table, rows=F.normalize(projected, dim=1).float(), mirrored=mirrored)


def _signs_of_largest(basis: Tensor) -> Tensor:
    """(k, 1) sign of the entry of largest magnitude in each row."""
    return basis.gather(1, basis.abs().argmax(dim=1, keepdim=True)).sign()
