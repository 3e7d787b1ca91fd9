"""Datasets, their protocols and pipeline steps."""

from .base_person_search import BasePersonSearchDataset
from .cuhk_sysu import CUHKSYSUDataset
from .custom import CustomPersonSearchDataset
from .prw import PRWDataset
from .transforms import AlignPids, LoadPersonSearchAnnotations, PackPersonSearchInputs

__all__ = [
    'AlignPids',
    'BasePersonSearchDataset',
    'CUHKSYSUDataset',
    'CustomPersonSearchDataset',
    'LoadPersonSearchAnnotations',
    'PRWDataset',
    'PackPersonSearchInputs',
]
