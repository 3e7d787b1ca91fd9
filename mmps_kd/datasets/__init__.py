"""Data sets with their protocols, pipeline steps and samplers."""

from .base_person_search import BasePersonSearchDataset, boxes_sha256
from .cuhk_sysu import CUHKSYSUDataset, load_cuhk_sysu_evaluation
from .custom import CustomPersonSearchDataset, load_custom_evaluation
from .dataset_wrappers import ConcatPersonSearchDataset, check_wrappers
from .prw import PRWDataset, full_gallery_protocol, load_prw_evaluation
from .query_gallery_pairs import QueryGalleryPairDataset
from .samplers import ResumableBatchSampler, ResumableSampler
from .transforms import (
    AlignPids,
    FloorResize,
    LoadPersonSearchAnnotations,
    LoadScene,
    PackPersonSearchInputs,
    PersonSearchDataSample,
    ResizeFromFile,
)

__all__ = [
    'AlignPids',
    'BasePersonSearchDataset',
    'CUHKSYSUDataset',
    'ConcatPersonSearchDataset',
    'CustomPersonSearchDataset',
    'FloorResize',
    'LoadPersonSearchAnnotations',
    'LoadScene',
    'PRWDataset',
    'PackPersonSearchInputs',
    'PersonSearchDataSample',
    'QueryGalleryPairDataset',
    'ResizeFromFile',
    'ResumableBatchSampler',
    'ResumableSampler',
    'boxes_sha256',
    'check_wrappers',
    'full_gallery_protocol',
    'load_cuhk_sysu_evaluation',
    'load_custom_evaluation',
    'load_prw_evaluation',
]
