"""The layouts that can be checked, and the numbers of the official data sets."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.registry import DATASETS

from mmps_kd.datasets.annotations import Annotations
from mmps_kd.datasets.annotations.cuhk_sysu import gallery_sizes_in, read_pool, read_train
from mmps_kd.datasets.base_person_search import BasePersonSearchDataset

IMAGES, IDENTITIES, QUERIES = 'images', 'identities', 'queries'


@dataclass(frozen=True)
class Layout:
    """A kind of data set.

    Attributes:
        dataset: Its class in the registry.
        options: Gives further arguments of the class, from the root.
        official: (split, what) to the number in the official data set.
        shared: Identities of training that test images show too, from root, training and test people.
    """

    dataset: str
    options: Callable[[Path], dict[str, Any]]
    official: dict[tuple[str, str], int] = field(default_factory=dict)
    shared: Callable[[Path, Annotations, Annotations], np.ndarray] = lambda root, train, test: _shared_pids(train, test)

    def build(self, root: Path, split: str, **options) -> BasePersonSearchDataset:
        """The data set, not loaded yet."""
        cfg = dict(type=self.dataset, data_root=str(root), split=split, lazy_init=True)
        return DATASETS.build({**cfg, **(self.options(root) if split == 'test' else {}), **options})


def _shared_pids(train: Annotations, test: Annotations) -> np.ndarray:
    pids = np.intersect1d(train.pids, test.pids)
    return pids[pids >= 0]


def _shared_names(root: Path, train: Annotations, test: Annotations) -> np.ndarray:
    """Test people of CUHK-SYSU are numbered by query: look where those of Train.mat appear."""
    names, pids, images, _ = read_train(root)
    return names[np.unique(pids[np.isin(images, read_pool(root))])]


# CUHK-SYSU: Xiao et al., CVPR 2017. PRW: Zheng et al., CVPR 2017; papers say 482 identities, its files hold 483.
LAYOUTS = {
    'cuhk-sysu': Layout(
        'CUHKSYSUDataset',
        lambda root: dict(gallery_sizes=gallery_sizes_in(root) or [100]),
        {
            ('train', IMAGES): 11206,
            ('test', IMAGES): 6978,
            ('train', IDENTITIES): 5532,
            ('test', QUERIES): 2900,
        },
        _shared_names,
    ),
    'prw': Layout(
        'PRWDataset',
        lambda root: {},
        {('train', IMAGES): 5704, ('test', IMAGES): 6112, ('train', IDENTITIES): 483, ('test', QUERIES): 2057},
    ),
    'custom': Layout('CustomPersonSearchDataset', lambda root: {}),
}
