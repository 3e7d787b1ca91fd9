"""Galleries: the people of many scenes, kept for searching."""

from .index import GalleryIndex
from .people import People, rank_people

__all__ = ['GalleryIndex', 'People', 'rank_people']
