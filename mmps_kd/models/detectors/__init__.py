"""Person-search detectors."""

from .person_search_rcnn import PersonSearchRCNN

__all__ = ['PersonSearchRCNN']
