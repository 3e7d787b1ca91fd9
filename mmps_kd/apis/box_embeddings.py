"""One pass of a teacher over a training set: the sum of its embeddings of each identity."""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from mmps_kd.datasets.base_person_search import BasePersonSearchDataset
from mmps_kd.npz import DamagedNpzError, read_npz, write_npz
from mmps_kd.structures import UNLABELLED

SAVE_EVERY = 500
"""Images between two writes of the partial sums."""


def sum_box_embeddings(
    model: nn.Module, dataset: BasePersonSearchDataset, partial: Path, inputs_sha256: str, num_workers: int = 0
) -> Tensor:
    """Sum the unit embeddings over all true boxes of each identity.

    Images go through the model one by one in the dataset's order, so that a run that was interrupted and goes on
    from its partial sums gives exactly what an uninterrupted one gives.

    Args:
        model: Detector in eval mode, with ``extract_feat`` and ``roi_head.embed``.
        dataset: Training set in test mode; images without an identity are left out.
        partial: File (npz) that holds the sums so far, gone on from if ``inputs_sha256`` agrees.
        inputs_sha256: Hash of all that the sums depend on, see :func:`hash_inputs`.
        num_workers: Processes that load images.

    Returns:
        (L, D) float64, on the CPU.
    """
    images = images_with_identities(dataset)
    done, sums = _read_partial(partial, inputs_sha256)
    rest = Subset(dataset, images[done:])
    loader = DataLoader(rest, batch_size=1, num_workers=num_workers, collate_fn=pseudo_collate)
    bar = tqdm(loader, initial=done, total=len(images), desc='embedding', unit='image', disable=None)
    for batch in bar:
        embeddings, pids = embed_labelled(model, batch)
        if sums is None:
            sums = embeddings.new_zeros(dataset.metainfo['num_identities'], embeddings.shape[1])
        sums.index_add_(0, pids, embeddings)
        done += 1
        if done % SAVE_EVERY == 0:
            write_npz(partial, inputs_sha256=np.array(inputs_sha256), done=done, sums=sums.numpy())
    return sums


def images_with_identities(dataset: BasePersonSearchDataset) -> list[int]:
    """Indices of the images in which somebody is labelled."""
    infos = map(dataset.get_data_info, range(len(dataset)))
    return [i for i, info in enumerate(infos) if any(person['pid'] != UNLABELLED for person in info['instances'])]


@torch.inference_mode()
def embed_labelled(model: nn.Module, batch: dict) -> tuple[Tensor, Tensor]:
    """Embed the labelled people of one image.

    Args:
        model: As for :func:`sum_box_embeddings`.
        batch: ``inputs`` and ``data_samples`` of one image.

    Returns:
        (n, D) float64 embeddings of unit length and (n,) int64 pids, on the CPU.
    """
    batch = model.data_preprocessor(batch, False)
    people = batch['data_samples'][0].gt_instances
    labelled = people.pids != UNLABELLED
    (embeddings,) = model.roi_head.embed(model.extract_feat(batch['inputs']), [people.bboxes[labelled]])
    return F.normalize(embeddings.cpu().double(), dim=1), people.pids[labelled].cpu()


def hash_inputs(dataset: BasePersonSearchDataset, model_cfg: dict, pipeline: list[dict], checkpoint_sha256: str) -> str:
    """Hash of all that the sums depend on, but for the pixels."""
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    boxes = [(info['img_path'], [(person['bbox'], person['pid']) for person in info['instances']]) for info in infos]
    text = json.dumps([checkpoint_sha256, repr(model_cfg), repr(pipeline), dataset.metainfo['identities'], boxes])
    return hashlib.sha256(text.encode()).hexdigest()


def _read_partial(path: Path, inputs_sha256: str) -> tuple[int, Tensor | None]:
    """Number of images done, and their sums; from the start where there is no file, or it is not of this pass."""
    try:
        arrays = read_npz(path)
    except (FileNotFoundError, DamagedNpzError):
        return 0, None
    if arrays.keys() != {'inputs_sha256', 'done', 'sums'} or str(arrays['inputs_sha256']) != inputs_sha256:
        return 0, None
    return int(arrays['done']), torch.from_numpy(arrays['sums'])
