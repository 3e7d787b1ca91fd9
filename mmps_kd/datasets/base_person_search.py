"""Base class of the person-search data sets, and deterministic sampling."""

import hashlib
import json
import logging
import os
from abc import abstractmethod
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.datasets import BaseDetDataset
from mmengine.logging import print_log

from mmps_kd.errors import UserError
from mmps_kd.randomness import LOADING, isolated_rng
from mmps_kd.structures import UNLABELLED, Annotations, EvaluationSet, SearchProtocol, near_files, run_offsets

from .image_files import DamagedImageError, read_orientations, read_sizes

ON_BAD_IMAGE = ('error', 'skip')


class SampleIndex(int):
    """Position of a sample in the data set, with the key of its random numbers: ``(run seed, epoch)``.

    It carries the epoch to worker processes, which may live on from epoch to epoch.
    """

    key: tuple[int, ...]

    def __mod__(self, size: int) -> 'SampleIndex':
        """The position in a data set that ``RepeatDataset`` repeats; each repetition draws other random numbers."""
        index = SampleIndex(int(self) % size)
        index.key = (*self.key, int(self))
        return index


def seed_by_index(get_item: Callable[[Any, int], Any]) -> Callable[[Any, int], Any]:
    """Decorator of a data set's ``__getitem__``: random numbers depend on run seed, epoch and sample alone.

    Which process loads the sample, and what was loaded before, then makes no difference to its augmentation, and there
    is no state of worker processes that a resumed run would have to restore. With a plain ``int`` instead of a
    :class:`SampleIndex`, the global random numbers are used, as usual.
    """

    @wraps(get_item)
    def get(self: Any, idx: int) -> Any:
        if not isinstance(idx, SampleIndex):
            return get_item(self, idx)
        with isolated_rng(LOADING, *idx.key, int(idx)):
            return get_item(self, int(idx))

    return get


class BasePersonSearchDataset(BaseDetDataset):
    """Whole images with annotated persons, some with an identity.

    For training, identities are numbered 0..N-1 in the sorted order of the annotation files' own numbers; the
    mapping comes from the data, and ``metainfo`` holds it: ``identities`` (the identity of row n of the OIM look-up
    table) and ``num_identities``. Boxes are numbered too, in the order of the images: ``box_id`` of an instance is its
    row in a table of boxes, see :func:`boxes_sha256`. For testing, ``metainfo['evaluation']`` is the
    :class:`~mmps_kd.structures.EvaluationSet`, and images that queries lie in carry
    ``queries``: ``boxes`` (n, 4) float32 in original pixels and ``ids`` (n,) int64, positions in the protocol.

    Boxes that are empty or outside their image are dropped and those that are partly outside are clipped, in the
    samples; a warning counts them. The ground truth of a test set stays as annotated.

    Args:
        split: 'train' or 'test': which images. Independent of ``test_mode``, which says how samples are fetched.
        on_bad_image: What a damaged image does to training: 'error' stops it, 'skip' leaves the image out and says so
            once. A test stops in either case: without the image its figures would be of another test set.
        filter_cfg: With ``filter_empty_gt`` (default), training images without a person are left out. Test images
            are all kept.
        dataset_name: Name in ``metainfo``; by default that of the class.
        **kwargs: As for mmdet's ``BaseDetDataset``; ``data_prefix['img']`` is the image folder under ``data_root``.
    """

    METAINFO = dict(classes=('person',), palette=[(220, 20, 60)])
    """``classes`` has one name: all boxes have the label 0."""
    __getitem__ = seed_by_index(BaseDetDataset.__getitem__)
    first_pid = first_box = 0
    """The pid of ``identities[0]`` and the number of the first box in the samples; :class:`ConcatPersonSearchDataset`
    sets them in its parts."""

    def __init__(
        self,
        split: str = 'train',
        filter_cfg: dict | None = None,
        on_bad_image: str = 'error',
        dataset_name: str | None = None,
        **kwargs,
    ) -> None:
        for key, value, choices in (('split', split, ('train', 'test')), ('on_bad_image', on_bad_image, ON_BAD_IMAGE)):
            if value not in choices:
                raise UserError(f'{type(self).__name__}: {key} must be {choices[0]!r} or {choices[1]!r}, got {value!r}')
        self.split = split
        self.on_bad_image = on_bad_image
        super().__init__(filter_cfg={'filter_empty_gt': True} if filter_cfg is None else filter_cfg, **kwargs)
        self._metainfo['dataset_name'] = dataset_name or self._metainfo.get('dataset_name', type(self).__name__)

    @classmethod
    def _load_metainfo(cls, metainfo: dict | None = None) -> dict:
        """As in MMEngine.

        Raises:
            UserError: If ``classes`` is not one name in a tuple or list.
        """
        loaded = super()._load_metainfo(metainfo)
        classes = loaded['classes']
        if not isinstance(classes, tuple | list) or len(classes) != 1:
            raise UserError(
                f"{cls.__name__}: metainfo['classes'] is {classes!r}: a person search is for one class, such as "
                "classes=('person',); train a model of its own for each other one"
            )
        return loaded

    @abstractmethod
    def load_train(self) -> tuple[Annotations, np.ndarray | None]:
        """Annotations of the training images, and the names of the identities where pids are positions in a list."""

    @abstractmethod
    def load_test(self) -> tuple[Annotations, EvaluationSet]:
        """Annotations of the test images, and what they are evaluated on."""

    @property
    def root(self) -> Path:
        """``data_root`` as a path."""
        return Path(self.data_root or '.')

    def load_data_list(self) -> list[dict]:
        """Read the split; fills ``metainfo``.

        Raises:
            UserError: If something is missing or wrong in ``data_root``.
        """
        if not self.root.is_dir():
            raise UserError(f'data_root {self.root}: no such folder; docs/datasets.md says where to get the data')
        annotations, found = self.load_train() if self.split == 'train' else self.load_test()
        for note in annotations.notes:
            self._warn(note)
        _require_images(Path(self.data_prefix['img']), annotations.image_names.tolist())
        annotations = self._compare_with_images(annotations)
        if self.split == 'test':
            _validate_evaluation(found, annotations)
            if found.num_absent:
                total = found.num_absent + found.main.num_queries
                self._warn(f'left out {found.num_absent} of {total} queries, whose person is nowhere in the gallery')
            self._metainfo['evaluation'] = found
            return self._make_data_infos(annotations, annotations.pids, _group_queries(found.main))
        empty, rare = (annotations.num_boxes == 0).sum(), len(annotations.single_image_pids())
        if empty or rare:
            message = f'{empty} of {len(annotations.image_names)} images have no person'
            message += f', {rare} identities appear in one image only'
            print_log(f'{type(self).__name__} ({self.split}): {message}', logger='current')
        # Number the identities 0..N-1; unlabelled boxes stay -1.
        pids = annotations.pids
        identities = np.unique(pids[pids >= 0])
        rows = np.where(pids >= 0, np.searchsorted(identities, pids), UNLABELLED)
        names = identities if found is None else found[identities]
        self._metainfo.update(identities=tuple(names.tolist()), num_identities=len(names))
        return self._make_data_infos(annotations, rows, {})

    def filter_data(self) -> list[dict]:
        """Leave training images without a person out, if so configured; number the boxes of the others."""
        kept = self.data_list
        if self.split == 'train' and self.filter_cfg.get('filter_empty_gt', False):
            kept = [info for info in kept if not all(person['ignore_flag'] for person in info['instances'])]
        if not kept:
            raise UserError(f'data_root {self.root}: no training image has a person in it; see docs/datasets.md')
        for box_id, person in enumerate(person for info in kept for person in info['instances']):
            person['box_id'] = box_id
        return kept

    def full_init(self) -> None:
        """Load the data; which images training finds damaged later is shared by all worker processes."""
        super().full_init()
        self._skipped = torch.zeros(len(self), dtype=torch.bool).share_memory_()

    def get_data_info(self, idx: int) -> dict:
        """Annotations of an image, its identities numbered from ``first_pid`` on, its boxes from ``first_box`` on."""
        info = super().get_data_info(idx)
        for person in info['instances']:
            person['box_id'] += self.first_box
            if person['pid'] >= 0:
                person['pid'] += self.first_pid
        return info

    def prepare_data(self, idx: int) -> dict | None:
        """Run the pipeline; None where the image is skipped, so that mmdet fetches another."""
        try:
            return super().prepare_data(idx)
        except DamagedImageError as error:
            if self.on_bad_image == 'error' or self.test_mode:
                raise
            if not self._skipped[idx]:
                self._skipped[idx] = True
                self._warn(f'{error}; skipped, {int(self._skipped.sum())} of {len(self)} images so far')
            return None

    def _compare_with_images(self, annotations: Annotations) -> Annotations:
        """Leave out unreadable images and boxes that are not in their image, with a warning for each kind."""
        folder = Path(self.data_prefix['img'])
        sizes = read_sizes(folder, annotations.image_names.tolist())
        damaged = (sizes == 0).any(axis=1)
        if damaged.any():
            first = annotations.image_names[damaged][0]
            message = f'{damaged.sum()} of {len(sizes)} images cannot be read, first {first}'
            if self.on_bad_image == 'error' or self.split == 'test':
                raise UserError(f'{self.data_prefix["img"]}: {message}; tools/dataset_tools/check_dataset.py lists all')
            self._warn(f'{message}; skipped')
            annotations, sizes = annotations.of_images(~damaged), sizes[~damaged]
        annotations = annotations.with_sizes(sizes)
        orientations = read_orientations(folder, annotations.image_names.tolist())
        turned = annotations.image_names[orientations != 1]
        if len(turned):
            first = ', '.join(turned[:3]) + (', ...' if len(turned) > 3 else '')
            self._warn(
                f'{len(turned)} images are to be turned by EXIF ({first}): they are used as stored, and their boxes '
                'must be in pixels as stored; tools/dataset_tools/check_dataset.py names all'
            )
        messages = (
            'dropped {} boxes of zero width or height',
            'dropped {} boxes outside their image',
            'clipped {} boxes that are partly outside their image',
        )
        for message, mask in zip(messages, annotations.find_box_faults(), strict=True):
            if mask.any():
                first = annotations.image_names[annotations.image_of_box[mask][0]]
                self._warn(f'{message.format(mask.sum())}, first in {first}')
        return annotations.clip_boxes()

    def _warn(self, message: str) -> None:
        print_log(f'{type(self).__name__} ({self.split}): {message}', logger='current', level=logging.WARNING)

    def _make_data_infos(self, annotations: Annotations, pids: np.ndarray, queries: dict[str, dict]) -> list[dict]:
        columns = annotations.boxes.tolist(), annotations.ignored.tolist(), pids.tolist()
        instances = [
            dict(bbox=box, bbox_label=0, ignore_flag=int(ignored), pid=pid)
            for box, ignored, pid in zip(*columns, strict=True)
        ]
        offsets = run_offsets(annotations.num_boxes).tolist()
        infos = []
        for i, name in enumerate(annotations.image_names.tolist()):
            path = os.path.join(self.data_prefix['img'], name)
            info = dict(img_id=i, img_name=name, img_path=path, instances=instances[offsets[i] : offsets[i + 1]])
            info['height'], info['width'] = annotations.image_sizes[i].tolist()
            if name in queries:
                info['queries'] = queries[name]
            infos.append(info)
        return infos


def inner_dataset(dataset: Any) -> Any:
    """The data set in pairs or repetitions of it."""
    while hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    return dataset


def boxes_sha256(dataset: Any) -> tuple[int, str]:
    """Number of annotated boxes of a training set, and a hash of them and their images, in the order of ``box_id``.

    Args:
        dataset: A person-search data set, joined ones, or pairs or repetitions of one.
    """
    dataset = inner_dataset(dataset)
    digest, number = hashlib.sha256(), 0
    for info in map(dataset.get_data_info, range(len(dataset))):
        boxes = [(person['box_id'], person['bbox']) for person in info['instances']]
        digest.update(json.dumps([info['img_name'], boxes]).encode())
        number += len(boxes)
    return number, digest.hexdigest()


def require_truth(protocol: SearchProtocol, source: str, advice: str = 'leave them out of the query list') -> None:
    """Raise :class:`UserError` if a query's person is nowhere in its gallery: its AP would be 0 / 0.

    Args:
        protocol: The protocol to check.
        source: Where it comes from, for the message.
        advice: What to do, for the message.
    """
    absent = np.flatnonzero(np.diff(protocol.truth_offsets) == 0)
    if len(absent):
        query = absent[0]
        pid = protocol.query_pids[query]
        raise UserError(
            f'{source}: query absent from the gallery: {len(absent)} of {protocol.num_queries} queries have no true '
            f'box there, first query {query} (pid {pid} in {protocol.query_images[query]})'
            f'{", which is unlabelled" if pid < 0 else ""}; {advice}'
        )


def _group_queries(protocol: SearchProtocol) -> dict[str, dict]:
    """Boxes and positions in the protocol of the queries in each image."""
    images, image_of_query = np.unique(protocol.query_images, return_inverse=True)
    order = np.argsort(image_of_query, kind='stable')
    groups = np.split(order, np.cumsum(np.bincount(image_of_query))[:-1])
    boxes = protocol.query_boxes.astype(np.float32)
    return {name: dict(boxes=boxes[ids], ids=ids) for name, ids in zip(images.tolist(), groups, strict=True)}


def _validate_evaluation(evaluation: EvaluationSet, annotations: Annotations) -> None:
    """All images of the protocols are test images, and the query boxes lie in theirs."""
    for name, protocol in evaluation.protocols.items():
        needed = np.concatenate([protocol.gallery_images, protocol.query_images])
        unlisted = needed[~np.isin(needed, annotations.image_names)]
        if len(unlisted):
            raise UserError(
                f'protocol {name} names {unlisted[0]}, which is not among the test images; get both from one place'
            )
    main = evaluation.main
    wrong = np.flatnonzero(annotations.find_outside(main.query_images, main.query_boxes))
    if len(wrong):
        raise UserError(
            f'query {wrong[0]} has box {main.query_boxes[wrong[0]].tolist()} (x1, y1, x2, y2), which is empty or '
            f'outside of {main.query_images[wrong[0]]}: correct it, or leave the query out'
        )


def _require_images(folder: Path, names: list[str]) -> None:
    """Check at the start, not after hours of training, that all images exist; one directory listing for each folder."""
    there = set()
    for sub in {os.path.dirname(name) for name in names}:
        if (folder / sub).is_dir():
            there.update(os.path.join(sub, entry.name) for entry in os.scandir(folder / sub))
    missing = [name for name in names if name not in there]
    if missing:
        raise UserError(
            f'{folder} lacks {len(missing)} of the {len(names)} images that the annotations name, first {missing[0]}'
            f'{near_files(folder, missing[:1])[0]}; unpack the images there or correct data_root'
        )
