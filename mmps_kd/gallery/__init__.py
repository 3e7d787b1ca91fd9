"""Galleries: the detections of many images, kept for searching."""

from .gallery import Gallery, Hits, Writer, is_gallery, read_npz_gallery
from .rows import Detections, GalleryImage, is_video, split_frame

__all__ = [
    'Detections',
    'Gallery',
    'GalleryImage',
    'Hits',
    'Writer',
    'is_gallery',
    'is_video',
    'read_npz_gallery',
    'split_frame',
]
