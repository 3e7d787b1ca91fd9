"""Joined training sets, and the check of dataset wrappers."""

import copy
import os
from collections.abc import Sequence
from typing import Any

from mmdet.datasets import ConcatDataset, MultiImageMixDataset
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import RepeatDataset
from torch.utils import data

from mmps_kd.errors import UserError

from .base_person_search import BasePersonSearchDataset, seed_by_index


@DATASETS.register_module()
class ConcatPersonSearchDataset(ConcatDataset):
    """Training sets one after another, with identities numbered through.

    The identities and boxes of a part are numbered after those of the parts before it, so that no two persons share a
    row of the OIM look-up table; unlabelled boxes stay -1. ``metainfo`` is that of one training set: ``dataset_name``
    is the names of the parts joined by ``+``; ``identities`` are text, ``<name of the part>/<identity there>``, so
    that a look-up table made for other parts or for another order of them has another hash; ``num_identities`` is
    their sum.

    Identities of different parts are taken for different persons, as the data sets do not say otherwise. An image that
    is in two parts is an error.

    Args:
        datasets: Configs of the parts: person-search data sets with ``split='train'`` and different ``dataset_name``,
            each with its own pipeline. A part may be in a ``RepeatDataset``.
        lazy_init: Do not read the parts here.

    Raises:
        UserError: If a part is something else, two parts have one name, their classes differ, or (when they are read)
            an image is in two parts.
    """

    __getitem__ = seed_by_index(ConcatDataset.__getitem__)

    def __init__(self, datasets: Sequence[dict | BasePersonSearchDataset], lazy_init: bool = False) -> None:
        if not datasets:
            raise UserError('ConcatPersonSearchDataset: datasets is empty, list the training sets in it')
        # A data set that is given as an object stays as it is: only its copy is numbered after others.
        datasets = [DATASETS.build(part) if isinstance(part, dict) else copy.copy(part) for part in datasets]
        self.parts = [_without_repeats(part) for part in datasets]
        """The parts without the ``RepeatDataset`` around them."""
        _require_training_sets(self.parts)
        # mmdet's constructor takes no RepeatDataset that is built, and fails where only a later part has some key.
        keys = {key for part in self.parts for key in part.metainfo}
        super().__init__(self.parts, lazy_init=True, ignore_keys=sorted(keys))
        self.datasets = datasets
        self._names = [part.metainfo['dataset_name'] for part in self.parts]
        own = ('identities', 'num_identities')
        self._metainfo = {key: value for key, value in self.parts[0].metainfo.items() if key not in own}
        self._metainfo['dataset_name'] = '+'.join(self._names)
        if not lazy_init:
            self.full_init()

    def full_init(self) -> None:
        """Read the parts and number their identities."""
        if self._fully_initialized:
            return
        super().full_init()
        identities, num_boxes = [], 0
        for name, part in zip(self._names, self.parts, strict=True):
            part.first_pid, part.first_box = len(identities), num_boxes
            identities += [f'{name}/{identity}' for identity in part.metainfo['identities']]
            num_boxes += sum(len(part.get_data_info(i)['instances']) for i in range(len(part)))
        self._metainfo.update(identities=tuple(identities), num_identities=len(identities))
        self._require_different_images()

    def prepare_data(self, idx: int) -> dict | None:
        """Run the pipeline of the image's part; None where the image is skipped. No part may be repeated."""
        part, image = self._get_ori_dataset_idx(idx)
        return self.parts[part].prepare_data(image)

    def _require_different_images(self) -> None:
        part_of: dict[str, str] = {}
        for name, part in zip(self._names, self.parts, strict=True):
            folder = os.path.realpath(part.data_prefix['img'])
            infos = map(part.get_data_info, range(len(part)))
            files = {os.path.normpath(os.path.join(folder, info['img_name'])) for info in infos}
            if twice := sorted(files & part_of.keys()):
                raise UserError(
                    f'{twice[0]} is in two parts, {part_of[twice[0]]} and {name}: each person in it would have two '
                    'identities; take it out of the annotations of one'
                )
            part_of.update(dict.fromkeys(files, name))


def _without_repeats(dataset: Any) -> Any:
    while isinstance(dataset, RepeatDataset):
        dataset = dataset.dataset
    return dataset


def _require_training_sets(parts: list) -> None:
    names: dict[str, int] = {}
    for k, part in enumerate(parts):
        what = f'ConcatPersonSearchDataset: datasets[{k}]'
        if not isinstance(part, BasePersonSearchDataset):
            raise UserError(
                f'{what} is a {type(part).__name__}: list person-search data sets, or RepeatDataset around one'
            )
        if part.split != 'train':
            raise UserError(
                f'{what} has split={part.split!r}: only training sets are joined; test each test set by itself'
            )
        name, classes = part.metainfo['dataset_name'], part.metainfo['classes']
        if name in names:
            raise UserError(
                f'{what} is named {name!r}, as datasets[{names[name]}]: give different data sets a dataset_name each, '
                f"such as dataset_name='{name}-2'; join files that number the same persons into one"
            )
        if classes != parts[0].metainfo['classes']:
            raise UserError(f'{what} has the classes {classes}, datasets[0] has {parts[0].metainfo["classes"]}')
        names[name] = k


def check_wrappers(dataset: Any) -> bool:
    """Refuse mmdet's wrappers in which a person id no longer means one person.

    Args:
        dataset: Data set of a training loader, or its config.

    Returns:
        Whether it is a person-search data set or holds one.

    Raises:
        UserError: If person-search data sets are in a plain ``ConcatDataset`` or in a ``MultiImageMixDataset``.
    """
    kind, fields = type(dataset), dataset if isinstance(dataset, dict) else getattr(dataset, '__dict__', {})
    if isinstance(dataset, dict):
        kind = dataset.get('type')
        kind = DATASETS.get(kind) if isinstance(kind, str) else kind
    if not isinstance(kind, type):
        return False
    inner = [*fields.get('datasets', ()), *([fields['dataset']] if 'dataset' in fields else [])]
    if not any([check_wrappers(part) for part in inner]):
        return issubclass(kind, BasePersonSearchDataset)
    if issubclass(kind, data.ConcatDataset) and not issubclass(kind, ConcatPersonSearchDataset):
        raise UserError(
            f'{kind.__name__} numbers the identities of every data set from 0, so that different persons share a row: '
            "use type='ConcatPersonSearchDataset'"
        )
    if issubclass(kind, MultiImageMixDataset):
        raise UserError('MultiImageMixDataset mixes images, and person ids do not follow their boxes: take it out')
    return True


def check_data_sets(cfg: Config) -> None:
    """Check, before anything is built, how a config joins data sets: MMEngine's errors come later and name no key.

    Raises:
        UserError: If training sets are joined in a way that mixes up identities, or test sets are joined.
    """
    train, *tests = ((cfg.get(f'{name}_dataloader') or {}).get('dataset') for name in ('train', 'val', 'test'))
    check_wrappers(train)
    for dataset in tests:
        if dataset is not None and ('datasets' in dataset or 'dataset' in dataset):
            raise UserError(
                f'{dataset["type"]} around test sets: together they have no protocol; test each by itself, see '
                'docs/evaluation.md'
            )
