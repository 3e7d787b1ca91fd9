"""Rendered person-search data sets in the official CUHK-SYSU and PRW layouts."""

from .plan import dataset_size
from .writer import write_dataset

__all__ = ['dataset_size', 'write_dataset']
