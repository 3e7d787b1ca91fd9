"""The file of a teacher's ID look-up table: safetensors, with what it was made from as metadata."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mmps_kd.errors import UserError

FORMAT_VERSION = '1'
UNIT_TOLERANCE = 1e-3
_TEXTS = ('dataset', 'pids_sha256', 'source', 'teacher_config', 'teacher_sha256')


@dataclass(frozen=True, eq=False)
class LookUpTable:
    """One ID vector for each training identity.

    Attributes:
        rows: (L, D) float32 of unit length, in the order of the dataset's ``metainfo['identities']``.
        dataset: The dataset's ``metainfo['dataset_name']``.
        pids_sha256: Hash of the identities in row order, see :func:`identities_sha256`.
        source: What the rows were made from: ``'memory'``, ``'boxes'`` or ``'features'``.
        teacher_config: Name of the teacher's config; of the features file where the vectors were made elsewhere.
        teacher_sha256: Hash of the teacher's checkpoint file; empty where the vectors were made elsewhere.
        file: Where it was read from, for messages.
    """

    rows: Tensor
    dataset: str
    pids_sha256: str
    source: str
    teacher_config: str
    teacher_sha256: str
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
    metadata.update(format_version=FORMAT_VERSION, dim=str(table.dim))
    with open(path, 'wb') as file:
        file.write(save({'lut': table.rows.contiguous()}, metadata))


def load_lut(path: str | os.PathLike) -> LookUpTable:
    """Read a table and check it in itself; :func:`check_lut` compares it with a dataset.

    Raises:
        UserError: If the file is missing, damaged, of another format version or incomplete, or a row is not finite,
            zero or not of unit length.
    """
    metadata, rows = _read(str(path))
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
    table = LookUpTable(rows, file=str(path), **{key: metadata[key] for key in _TEXTS})
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


def _read(path: str) -> tuple[dict[str, str], Tensor | None]:
    try:
        with safe_open(path, 'pt') as file:
            return file.metadata() or {}, file.get_tensor('lut') if 'lut' in file.keys() else None  # noqa: SIM118
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
