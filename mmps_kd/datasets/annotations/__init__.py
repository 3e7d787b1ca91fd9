"""Readers of the official annotation files: each gives flat NumPy arrays."""

from .structures import Annotations, ListedGalleries, corners

__all__ = ['Annotations', 'ListedGalleries', 'corners']
