"""Datasets, their protocols and pipeline steps."""

from .base_person_search import BasePersonSearchDataset
from .cuhk_sysu import CUHKSYSUDataset
from .custom import CustomPersonSearchDataset
from .dataset_wrappers import ConcatPersonSearchDataset, check_wrappers
from .prw import PRWDataset
from .query_gallery_pairs import QueryGalleryPairDataset
from .samplers import ResumableBatchSampler, ResumableSampler
from .transforms import AlignPids, LoadPersonSearchAnnotations, LoadScene, PackPersonSearchInputs

__all__ = [
    'AlignPids',
    'BasePersonSearchDataset',
    'CUHKSYSUDataset',
    'ConcatPersonSearchDataset',
    'CustomPersonSearchDataset',
    'LoadPersonSearchAnnotations',
    'LoadScene',
    'PRWDataset',
    'PackPersonSearchInputs',
    'QueryGalleryPairDataset',
    'ResumableBatchSampler',
    'ResumableSampler',
    'check_wrappers',
]
