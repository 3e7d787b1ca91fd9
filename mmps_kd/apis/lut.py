"""Rows of a look-up table (LUT) of ID features: from a trained teacher, or from vectors that were made elsewhere."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from mmps_kd.datasets import BasePersonSearchDataset, ConcatPersonSearchDataset
from mmps_kd.datasets.image_files import decode_image, read_orientation, turn_upright
from mmps_kd.errors import UserError
from mmps_kd.fileio import DamagedNpzError, read_npz, write_npz
from mmps_kd.models.distillers.reid_network import ReIDNetwork, crop
from mmps_kd.structures import UNLABELLED

from .init_model import test_pipeline

SAVE_EVERY = 500
"""Images between two writes of what was embedded."""


def build_train_set(cfg: Config) -> BasePersonSearchDataset | ConcatPersonSearchDataset:
    """The training set as the test pipeline sees it: no flip, nothing drawn; each image once."""
    return DATASETS.build(_as_tested(cfg.train_dataloader.dataset, test_pipeline(cfg)))


def _as_tested(dataset: dict, pipeline: list[dict]) -> dict:
    if 'datasets' in dataset:
        return {**dataset, 'datasets': [_as_tested(part, pipeline) for part in dataset['datasets']]}
    if 'dataset' in dataset:  # pairs or repetitions of a data set's images
        return _as_tested(dataset['dataset'], pipeline)
    return {**dataset, 'pipeline': pipeline, 'test_mode': True}


def rows_from_memory(checkpoint: dict, name: str, metainfo: dict | None = None) -> tuple[Tensor, dict]:
    """The teacher's own OIM table.

    Args:
        checkpoint: As read by :func:`read_checkpoint`.
        name: Its file, for messages.
        metainfo: Of the config's training set, for a checkpoint of weights alone, which does not name its own.

    Returns:
        (L, D) float32 of unit length, and the ``metainfo`` of the teacher's training set.

    Raises:
        UserError: If the checkpoint does not have exactly one table, does not name its training set, or a row was
            never written.
    """
    tables = [value for key, value in checkpoint['state_dict'].items() if key.endswith('loss_oim.lut')]
    if len(tables) != 1:
        raise UserError(f'{name} has {len(tables)} OIM tables (loss_oim.lut), not one: use --source boxes')
    if tables[0].ndim != 2 or not tables[0].is_floating_point():
        raise UserError(f'{name} has an OIM table (loss_oim.lut) that holds no vectors: use --source boxes')
    if metainfo is not None and len(metainfo['identities']) != len(tables[0]):
        raise UserError(
            f'{name} does not say what identities it was trained on (meta.dataset_meta), and its OIM table has '
            f'{len(tables[0])} rows where the training set of the config has {len(metainfo["identities"])} identities: '
            'give the config that it was trained with, or use --source boxes'
        )
    metainfo = metainfo or checkpoint['meta'].get('dataset_meta')
    if not isinstance(metainfo, dict) or not _names_identities(metainfo, len(tables[0])):
        raise UserError(
            f'{name} does not say what identities it was trained on (meta.dataset_meta): use --source boxes'
        )
    identities = metainfo['identities']
    # Rows beyond the identities, where the config asked for more, belong to nobody.
    rows = tables[0][: len(identities)]
    return unit_rows(
        rows, identities, 'its row of the OIM table was never written: train longer, or use --source boxes'
    ), metainfo


def rows_from_features(path: str | os.PathLike, identities: Sequence[int | str]) -> Tensor:
    """Mean unit vector of each identity, from an npz that any re-id model can write.

    Args:
        path: npz with ``features`` (M, D) and ``pids`` (M,), each one of ``identities``, as number or as text.
        identities: The training set's ``metainfo['identities']``.

    Returns:
        (L, D) float32 of unit length.

    Raises:
        UserError: If the file is missing, damaged or incomplete, names an unknown identity, leaves one out, or a
            vector is zero or not finite.
    """
    features, pids = _read_features(path)
    row_of = {str(identity): row for row, identity in enumerate(identities)}
    unknown = [pid for pid in pids if pid not in row_of]
    if unknown:
        raise UserError(f'{path} names identity {unknown[0]}, which the training set does not have')
    vectors = torch.from_numpy(features).double()
    norms = vectors.norm(dim=1)
    bad = (~norms.isfinite() | (norms == 0)).nonzero()
    if len(bad):
        raise UserError(f"{path}: row {int(bad[0])} of 'features' is zero or not finite")
    sums = vectors.new_zeros(len(identities), vectors.shape[1])
    sums.index_add_(0, torch.tensor([row_of[pid] for pid in pids], dtype=torch.long), F.normalize(vectors, dim=1))
    return unit_rows(sums, identities, f'{path} has no vector of it, or its vectors cancel out')


def unit_rows(rows: Tensor, identities: Sequence[int | str], reason: str) -> Tensor:
    """Bring each identity's row to unit length.

    Args:
        rows: (L, D).
        identities: What the rows stand for.
        reason: Why a row may be zero or not finite, for the message.

    Returns:
        (L, D) float32 of unit length.

    Raises:
        UserError: If a row is zero or not finite; names the identity.
    """
    norms = rows.norm(dim=1)
    bad = (~norms.isfinite() | (norms == 0)).nonzero()
    if len(bad):
        raise UserError(f'no vector for identity {identities[int(bad[0])]} (row {int(bad[0])}): {reason}')
    return F.normalize(rows, dim=1).float()


def _names_identities(metainfo: dict, at_most: int) -> bool:
    name, identities = metainfo.get('dataset_name'), metainfo.get('identities')
    are_listed = isinstance(identities, list | tuple) and len(identities) <= at_most
    return isinstance(name, str) and are_listed and all(isinstance(identity, int | str) for identity in identities)


def _read_features(path: str | os.PathLike) -> tuple[np.ndarray, list[str]]:
    try:
        arrays = read_npz(path, ('features', 'pids'))
        features, pids = arrays['features'], arrays['pids']
    except FileNotFoundError:
        raise UserError(f'there is no features file {path}') from None
    except (DamagedNpzError, KeyError):
        raise UserError(f"{path} is damaged or no npz with 'features' and 'pids'") from None
    if (
        features.ndim != 2
        or features.dtype.kind != 'f'
        or pids.shape != features.shape[:1]
        or pids.dtype.kind not in 'iuU'
    ):
        raise UserError(
            f"{path} needs 'features' (M, D) of floats and 'pids' (M,) of integers or text, it has "
            f'{features.shape} of {features.dtype} and {pids.shape} of {pids.dtype}'
        )
    return features, pids.astype(str).tolist()


def embed_boxes(
    embed: Callable[[Any], np.ndarray],
    images: Dataset,
    partial: Path,
    inputs_sha256: str,
    num_workers: int = 0,
    collate: Callable[[list], Any] = pseudo_collate,
) -> np.ndarray:
    """Embed true boxes, image by image.

    A run that was interrupted goes on from what it has written, and gives exactly what an uninterrupted one gives.

    Args:
        embed: Gives the vectors (n, ...) of one image's boxes.
        images: What it is given, by image.
        partial: File (npz) that holds the vectors so far, gone on from if ``inputs_sha256`` agrees.
        inputs_sha256: Hash of all that the vectors depend on, see :func:`hash_inputs`.
        num_workers: Processes that load images.
        collate: Makes a batch of one image.

    Returns:
        (M, ...) float32, of the images' boxes in order.
    """
    done, vectors = _read_partial(partial, inputs_sha256)
    rest = Subset(images, range(done, len(images)))
    loader = DataLoader(rest, batch_size=1, num_workers=num_workers, collate_fn=collate)
    for batch in tqdm(loader, initial=done, total=len(images), desc='embedding', unit='image', disable=None):
        vectors.append(embed(batch))
        done += 1
        if done % SAVE_EVERY == 0:
            vectors = [np.concatenate(vectors)]
            write_npz(partial, inputs_sha256=np.array(inputs_sha256), done=done, vectors=vectors[0])
    return np.concatenate(vectors)


@torch.inference_mode()
def embed_by_model(model: nn.Module, batch: dict, labelled: bool) -> np.ndarray:
    """Embed the people of one image by a person-search model.

    Args:
        model: Detector in eval mode, with ``extract_feat`` and ``roi_head.embed``.
        batch: ``inputs`` and ``data_samples`` of one image.
        labelled: Only people with an identity.

    Returns:
        (n, D) float32.
    """
    batch = model.data_preprocessor(batch, False)
    people = batch['data_samples'][0].gt_instances
    boxes = people.bboxes[people.pids != UNLABELLED] if labelled else people.bboxes
    (embeddings,) = model.roi_head.embed(model.extract_feat(batch['inputs']), [boxes])
    return embeddings.cpu().float().numpy()


class Crops(Dataset):
    """Crops of people as a re-identification network takes them, by image.

    Args:
        dataset: Training set.
        images: Indices of the images.
        network: The network.
        labelled: Only people with an identity.
        mirror: Mirrored crops too, each behind its crop.
    """

    def __init__(
        self, dataset: BasePersonSearchDataset, images: list[int], network: ReIDNetwork, labelled: bool, mirror: bool
    ) -> None:
        self.infos = [dataset.get_data_info(i) for i in images]
        self.prepare, self.labelled, self.mirror = network.prepare, labelled, mirror

    def __len__(self) -> int:
        """Number of images."""
        return len(self.infos)

    def __getitem__(self, index: int) -> np.ndarray:
        """(n, V, 3, H, W) float32: V = 2 with mirrored crops, else 1."""
        info = self.infos[index]
        image, orientation = decode_image(info['img_path']), read_orientation(info['img_path'])
        inputs = []
        for person in info['instances']:
            if not self.labelled or person['pid'] != UNLABELLED:
                upright = turn_upright(crop(image, person['bbox']), orientation)
                views = [upright, np.ascontiguousarray(upright[:, ::-1])][: 1 + self.mirror]
                inputs.append(np.stack([self.prepare(view) for view in views]))
        return np.stack(inputs)


def mean_rows(vectors: np.ndarray, dataset: BasePersonSearchDataset, images: list[int]) -> Tensor:
    """(L, D) mean unit vector of each identity from the vectors (M, D) of the labelled boxes in ``images``."""
    infos = map(dataset.get_data_info, images)
    pids = [person['pid'] for info in infos for person in info['instances'] if person['pid'] != UNLABELLED]
    sums = torch.zeros(dataset.metainfo['num_identities'], vectors.shape[1], dtype=torch.float64)
    sums.index_add_(0, torch.tensor(pids), F.normalize(torch.from_numpy(vectors).double(), dim=1))
    return unit_rows(sums, dataset.metainfo['identities'], 'its embeddings are not finite')


def images_with_identities(dataset: BasePersonSearchDataset) -> list[int]:
    """Indices of the images in which somebody is labelled."""
    return images_with_people(dataset, labelled=True)


def images_with_people(dataset: BasePersonSearchDataset, labelled: bool) -> list[int]:
    """Indices of the images with boxes, or with one that is labelled: without any there is nothing to embed."""
    infos = map(dataset.get_data_info, range(len(dataset)))
    people = (info['instances'] for info in infos)
    return [i for i, boxes in enumerate(people) if any(not labelled or box['pid'] != UNLABELLED for box in boxes)]


def hash_inputs(dataset: BasePersonSearchDataset, *teacher: Any) -> str:
    """Hash of all that the vectors depend on, but for the pixels; ``teacher``: its settings and its weights' hash."""
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    boxes = [(info['img_path'], [(person['bbox'], person['pid']) for person in info['instances']]) for info in infos]
    text = json.dumps([list(map(repr, teacher)), dataset.metainfo.get('identities'), boxes])
    return hashlib.sha256(text.encode()).hexdigest()


def _read_partial(path: Path, inputs_sha256: str) -> tuple[int, list[np.ndarray]]:
    """Number of images done, and their vectors; from the start where there is no file, or it is not of this pass."""
    try:
        arrays = read_npz(path)
    except (FileNotFoundError, DamagedNpzError):
        return 0, []
    if arrays.keys() != {'inputs_sha256', 'done', 'vectors'} or str(arrays['inputs_sha256']) != inputs_sha256:
        return 0, []
    return int(arrays['done']), [arrays['vectors']]
