"""Pairs of a query and a gallery image, for training query-guided models."""

from collections import defaultdict

import numpy as np
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData

from mmps_kd.errors import UserError

from .base_person_search import BasePersonSearchDataset, seed_by_index
from .dataset_wrappers import ConcatPersonSearchDataset


@DATASETS.register_module()
class QueryGalleryPairDataset:
    """Each training image as gallery, with a query drawn for it.

    One item for each image with a labelled person that appears in another image too. The query is drawn for each
    access, with NumPy's global random numbers, which MMEngine seeds in every worker:

    - with probability ``positive_fraction``, a positive pair: one of these persons, uniformly, then one of the other
      images of that identity, uniformly;
    - otherwise a negative pair: one of the identities that are not in the gallery image, uniformly, then one of its
      images.

    In a :class:`ConcatPersonSearchDataset`, queries of negative pairs come from all of its parts.

    An identity that appears in one image only is never a positive query. An item is
    ``dict(inputs=..., data_samples=...)``, each a dict of ``query`` and ``gallery``; the query sample carries
    ``query_instances``: ``bboxes`` (1, 4) float32 in network input pixels and ``pids`` (1,) int64. Each image goes
    through the pipeline by itself; a flip is applied to the query's box too.

    Args:
        dataset: Config of the training set; that of a ``ConcatPersonSearchDataset`` without ``RepeatDataset`` in it.
        positive_fraction: In 0..1.
        lazy_init: Do not read the data set yet.

    Raises:
        UserError: If the data set is no person-search training set, or no identity appears in two images.
    """

    def __init__(self, dataset: dict, positive_fraction: float = 1.0, lazy_init: bool = False) -> None:
        if not 0 <= positive_fraction <= 1:
            raise UserError(f'QueryGalleryPairDataset: positive_fraction must be in 0..1, got {positive_fraction}')
        self.dataset = DATASETS.build(dataset)
        self.parts = self.dataset.datasets if isinstance(self.dataset, ConcatPersonSearchDataset) else [self.dataset]
        """The training sets."""
        if not all(isinstance(part, BasePersonSearchDataset) and part.split == 'train' for part in self.parts):
            raise UserError(
                "pairs are of images of one person-search data set with split='train', or of a "
                f'ConcatPersonSearchDataset without RepeatDataset in it, got {dataset["type"]}: '
                'identities of different data sets are not to be compared unless they are numbered through'
            )
        self.positive_fraction = positive_fraction
        self._fully_initialized = False
        if not lazy_init:
            self.full_init()

    @property
    def metainfo(self) -> dict:
        """That of the data set, with its ``identities``."""
        return self.dataset.metainfo

    def full_init(self) -> None:
        """Read the data set and list the identities of each image."""
        if self._fully_initialized:
            return
        self.dataset.full_init()
        self.identities_in = [_labelled(self.dataset.get_data_info(i)) for i in range(len(self.dataset))]
        self.images_of = defaultdict(list)
        """The images of each identity."""
        for image, pids in enumerate(self.identities_in):
            for pid in pids:
                self.images_of[pid].append(image)
        wanted = {pid for pid, images in self.images_of.items() if len(images) > 1}
        self.candidates = {
            image: sorted(pids & wanted) for image, pids in enumerate(self.identities_in) if pids & wanted
        }
        """The identities of a gallery image that can be its positive query."""
        self.galleries = list(self.candidates)
        if not self.galleries:
            raise UserError(f'{self.roots}: no identity is labelled in two images, so there are no pairs')
        self._fully_initialized = True

    @property
    def roots(self) -> str:
        """Folders of the data, for messages."""
        return ', '.join(str(part.root) for part in self.parts)

    def get_data_info(self, idx: int) -> dict:
        """Annotations of an item's gallery image."""
        return self.dataset.get_data_info(self.galleries[idx])

    def __len__(self) -> int:
        """Number of gallery images."""
        return len(self.galleries)

    @seed_by_index
    def __getitem__(self, idx: int) -> dict:
        """Gallery image ``idx`` with a query drawn for it.

        Where an image is skipped or the pipeline drops the query, another gallery image is taken instead.

        Raises:
            UserError: If that goes on for as long as ``max_refetch`` of the data set says.
        """
        for _ in range(self.parts[0].max_refetch + 1):
            item = self.pair(*self._draw(idx))
            if item is not None:
                return item
            idx = np.random.randint(len(self))
        raise UserError(f'{self.roots}: the pipeline drops every query; take transforms out that drop boxes')

    def _draw(self, idx: int) -> tuple[int, int, int]:
        """Query image, identity and gallery image."""
        gallery = self.galleries[idx]
        if np.random.random() < self.positive_fraction:
            pid = np.random.choice(self.candidates[gallery])
            images = [image for image in self.images_of[pid] if image != gallery]
        else:
            pid = np.random.choice([pid for pid in self.images_of if pid not in self.identities_in[gallery]])
            images = self.images_of[pid]
        return int(np.random.choice(images)), int(pid), gallery

    def pair(self, query: int, pid: int, gallery: int) -> dict | None:
        """Load a given pair.

        Args:
            query: Position of the query image in the data set.
            pid: Identity to search.
            gallery: Position of the gallery image in the data set.

        Returns:
            The item; None if an image is skipped or the pipeline drops the query.

        Raises:
            UserError: If the person is not labelled in the query image.
        """
        if pid not in self.identities_in[query]:
            name = self.dataset.get_data_info(query)['img_name']
            raise UserError(f'query in {name}: no box there has identity {pid}; a query needs an identity, 0 or above')
        items = dict(query=self.dataset.prepare_data(query), gallery=self.dataset.prepare_data(gallery))
        if None in items.values():
            return None
        instance = _query_instance(items['query']['data_samples'], pid)
        if instance is None:
            return None
        items['query']['data_samples'].query_instances = instance
        return {key: {branch: item[key] for branch, item in items.items()} for key in ('inputs', 'data_samples')}


def _labelled(info: dict) -> set[int]:
    return {person['pid'] for person in info['instances'] if person['pid'] >= 0}


def _query_instance(sample: DetDataSample, pid: int) -> InstanceData | None:
    """The query's box after the pipeline, found by its identity, so that it follows a flip or crop; None if dropped."""
    instances = sample.gt_instances[sample.gt_instances.pids == pid][:1]
    boxes = get_box_tensor(instances.bboxes)
    # Resizing clips boxes to the image: one outside has no width or height then.
    inside = (boxes[:, :2] < boxes[:, 2:]).all(dim=1)
    return InstanceData(bboxes=boxes, pids=instances.pids, box_ids=instances.box_ids) if inside.any() else None
