"""What the person-search datasets share."""

import logging
import os
from abc import abstractmethod
from pathlib import Path

import numpy as np
import torch
from mmdet.datasets import BaseDetDataset
from mmengine.logging import print_log

from mmps_kd.errors import UserError
from mmps_kd.image_names import near_files
from mmps_kd.structures import EvaluationSet, SearchProtocol

from .annotations import Annotations
from .annotations.structures import offsets_of, rare_identities
from .box_faults import find_box_faults, mend_boxes, queries_outside, with_sizes
from .image_files import DamagedImageError, read_orientations, read_sizes
from .sample_index import seeded_by_index

ON_BAD_IMAGE = ('error', 'skip')


class BasePersonSearchDataset(BaseDetDataset):
    """People in whole scene images, some with an identity.

    For training, identities are numbered 0..N-1 in the sorted order of the annotation files' own numbers; the
    mapping comes from the data, and ``metainfo`` holds it: ``identities`` (what row n of an OIM table stands for) and
    ``num_identities``. For testing, ``metainfo['evaluation']`` is the
    :class:`~mmps_kd.structures.EvaluationSet`, and images that queries lie in carry
    ``queries``: ``boxes`` (n, 4) float32 in original pixels and ``ids`` (n,) int64, positions in the protocol.

    Boxes that are empty or outside their image are dropped and those that hang over are cut, in the samples; a warning
    counts them. What a test set is evaluated on stays as annotated.

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
    __getitem__ = seeded_by_index(BaseDetDataset.__getitem__)
    first_pid = 0
    """The pid of ``identities[0]`` in the samples; :class:`ConcatPersonSearchDataset` sets it in its parts."""

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
        """People of the training images, and the names of their identities where pids are positions in a list."""

    @abstractmethod
    def load_test(self) -> tuple[Annotations, EvaluationSet]:
        """People of the test images, and what they are evaluated on."""

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
            raise UserError(f'data_root {self.root}: no such folder; where to get the data stands in docs/datasets.md')
        people, found = self.load_train() if self.split == 'train' else self.load_test()
        for note in people.notes:
            self._warn(note)
        _require_images(Path(self.data_prefix['img']), people.image_names.tolist())
        people = self._fit_to_images(people)
        if self.split == 'test':
            _require_listed(found, people)
            if found.num_absent:
                total = found.num_absent + found.main.num_queries
                self._warn(f'left out {found.num_absent} of {total} queries, whose person is nowhere in the gallery')
            self._metainfo['evaluation'] = found
            return self._data_infos(people, people.pids, _queries_by_image(found.main))
        self._tell_of_rare_people(people)
        rows, identities = _relabel(people.pids)
        names = identities if found is None else found[identities]
        self._metainfo.update(identities=tuple(names.tolist()), num_identities=len(names))
        return self._data_infos(people, rows, {})

    def filter_data(self) -> list[dict]:
        """Leave training images without a person out, if so configured."""
        if self.split == 'test' or not self.filter_cfg.get('filter_empty_gt', False):
            return self.data_list
        kept = [info for info in self.data_list if not all(person['ignore_flag'] for person in info['instances'])]
        if not kept:
            raise UserError(f'data_root {self.root}: no training image has a person in it; see docs/datasets.md')
        return kept

    def full_init(self) -> None:
        """Load the data; training may find damaged images later, which all worker processes know of."""
        super().full_init()
        self._skipped = torch.zeros(len(self), dtype=torch.bool).share_memory_()

    def get_data_info(self, idx: int) -> dict:
        """Annotations of an image, its identities numbered from ``first_pid`` on."""
        info = super().get_data_info(idx)
        for person in info['instances']:
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

    def _fit_to_images(self, people: Annotations) -> Annotations:
        """Leave out what does not fit the image files, and say what and how much."""
        sizes = read_sizes(Path(self.data_prefix['img']), people.image_names.tolist())
        damaged = (sizes == 0).any(axis=1)
        if damaged.any():
            message = f'{damaged.sum()} of {len(sizes)} images cannot be read, first {people.image_names[damaged][0]}'
            if self.on_bad_image == 'error' or self.split == 'test':
                raise UserError(f'{self.data_prefix["img"]}: {message}; tools/dataset_tools/check_dataset.py lists all')
            self._warn(f'{message}; skipped')
            people, sizes = people.of_images(~damaged), sizes[~damaged]
        people = with_sizes(people, sizes)
        turned = people.image_names[read_orientations(Path(self.data_prefix['img']), people.image_names.tolist()) != 1]
        if len(turned):
            first = ', '.join(turned[:3]) + (', ...' if len(turned) > 3 else '')
            self._warn(
                f'{len(turned)} images are to be turned by EXIF ({first}): they are used as stored, and their boxes '
                'must be in pixels as stored; tools/dataset_tools/check_dataset.py names all'
            )
        faults = find_box_faults(people)
        for mask, what in (
            (faults.empty, 'dropped {} boxes of zero width or height'),
            (faults.outside, 'dropped {} boxes outside their image'),
            (faults.overhanging, 'cut {} boxes that hang over the edge of their image'),
        ):
            if mask.any():
                self._warn(f'{what.format(mask.sum())}, first in {people.image_names[people.image_of_box[mask][0]]}')
        return mend_boxes(people, faults)

    def _tell_of_rare_people(self, people: Annotations) -> None:
        nobody, rare = (people.num_boxes == 0).sum(), len(rare_identities(people))
        if nobody or rare:
            message = (
                f'{nobody} of {len(people.image_names)} images hold nobody, {rare} identities are seen in one only'
            )
            print_log(f'{type(self).__name__} ({self.split}): {message}', logger='current')

    def _warn(self, message: str) -> None:
        print_log(f'{type(self).__name__} ({self.split}): {message}', logger='current', level=logging.WARNING)

    def _data_infos(self, people: Annotations, pids: np.ndarray, queries: dict[str, dict]) -> list[dict]:
        instances = [
            dict(bbox=box, bbox_label=0, ignore_flag=int(ignored), pid=pid)
            for box, ignored, pid in zip(people.boxes.tolist(), people.ignored.tolist(), pids.tolist(), strict=True)
        ]
        offsets = offsets_of(people.num_boxes).tolist()
        infos = []
        for i, name in enumerate(people.image_names.tolist()):
            path = os.path.join(self.data_prefix['img'], name)
            info = dict(img_id=i, img_name=name, img_path=path, instances=instances[offsets[i] : offsets[i + 1]])
            if people.image_sizes is not None:
                info['height'], info['width'] = people.image_sizes[i].tolist()
            if name in queries:
                info['queries'] = queries[name]
            infos.append(info)
        return infos


def _relabel(pids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the identities 0..N-1; returns the new pids (M,), -1 kept, and the old number of each row (N,)."""
    identities = np.unique(pids[pids >= 0])
    return np.where(pids >= 0, np.searchsorted(identities, pids), -1), identities


def _queries_by_image(protocol: SearchProtocol) -> dict[str, dict]:
    images, inverse = np.unique(protocol.query_images, return_inverse=True)
    order = np.argsort(inverse, kind='stable')
    groups = np.split(order, np.cumsum(np.bincount(inverse))[:-1])
    boxes = protocol.query_boxes.astype(np.float32)
    return {name: dict(boxes=boxes[ids], ids=ids) for name, ids in zip(images.tolist(), groups, strict=True)}


def _require_listed(evaluation: EvaluationSet, people: Annotations) -> None:
    for name, protocol in evaluation.protocols.items():
        needed = np.concatenate([protocol.gallery_images, protocol.query_images])
        unlisted = needed[~np.isin(needed, people.image_names)]
        if len(unlisted):
            raise UserError(
                f'protocol {name} names {unlisted[0]}, which is not among the test images; get both from one place'
            )
    main = evaluation.main
    wrong = np.flatnonzero(queries_outside(main, people))
    if len(wrong):
        raise UserError(
            f'query {wrong[0]} has box {main.query_boxes[wrong[0]].tolist()} (x1, y1, x2, y2), which is empty or '
            f'outside of {main.query_images[wrong[0]]}: correct it, or leave the query out'
        )


def _require_images(folder: Path, names: list[str]) -> None:
    """Look all images up at once, folder by folder, before hours of training find that one is missing."""
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
