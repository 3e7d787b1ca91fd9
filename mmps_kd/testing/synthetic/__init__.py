"""Rendered person-search datasets in the official CUHK-SYSU and PRW layouts."""

from .writer import write_dataset

__all__ = ['write_dataset']
