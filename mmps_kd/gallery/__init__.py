"""Galleries: the detections of many images, kept for searching."""

from .index import Detections, GalleryIndex

__all__ = ['Detections', 'GalleryIndex']
