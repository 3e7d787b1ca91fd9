"""Search protocols: which query is searched in which gallery images, and where the true boxes are."""

from .cuhk_sysu import load_cuhk_sysu_evaluation, load_cuhk_sysu_protocols
from .full_gallery import full_gallery_protocol
from .prw import load_prw_evaluation, prw_evaluation

__all__ = [
    'full_gallery_protocol',
    'load_cuhk_sysu_evaluation',
    'load_cuhk_sysu_protocols',
    'load_prw_evaluation',
    'prw_evaluation',
]
