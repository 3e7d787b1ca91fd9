"""CUHK-SYSU as it is downloaded."""

from collections.abc import Sequence

import numpy as np
from mmdet.registry import DATASETS

from mmps_kd.structures import EvaluationSet

from .annotations import Annotations
from .annotations.cuhk_sysu_splits import read_test_split, read_train_split
from .base_person_search import BasePersonSearchDataset
from .protocols.cuhk_sysu import GallerySize, load_cuhk_sysu_protocols, main_size


@DATASETS.register_module()
class CUHKSYSUDataset(BasePersonSearchDataset):
    """CUHK-SYSU (Xiao et al., CVPR 2017): 18,184 images, 8,432 identities, 5,532 of them for training.

    ``data_root`` is the folder that holds ``Image`` and ``annotation``. Training images are all images that
    ``annotation/pool.mat`` does not list.

    Args:
        gallery_sizes: Protocols to evaluate on, see
            :func:`~mmps_kd.datasets.protocols.load_cuhk_sysu_evaluation`; the first is the main one.
        data_prefix: The image folder.
        **kwargs: As for :class:`BasePersonSearchDataset`.
    """

    METAINFO = dict(dataset_name='CUHK-SYSU', **BasePersonSearchDataset.METAINFO)

    def __init__(
        self, gallery_sizes: Sequence[GallerySize] = (100,), data_prefix: dict | None = None, **kwargs
    ) -> None:
        self.gallery_sizes = gallery_sizes
        super().__init__(data_prefix=data_prefix or dict(img='Image/SSM'), **kwargs)

    def load_train(self) -> tuple[Annotations, np.ndarray]:
        """People of the training images, and the names of the training identities."""
        return read_train_split(self.root)

    def load_test(self) -> tuple[Annotations, EvaluationSet]:
        """People of the test images, and the protocols of the gallery sizes."""
        people = read_test_split(self.root, main_size(self.root, self.gallery_sizes))
        return people, EvaluationSet(load_cuhk_sysu_protocols(self.root, self.gallery_sizes), people.ground_truth())
