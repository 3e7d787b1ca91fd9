"""What tools and notebooks call."""

from .inferencer import PersonSearchInferencer
from .init_model import init_model, load_config
from .results import Detected, DetectionResult, Match, QueryBox, SearchResult, Skipped, Turned, read_match

__all__ = [
    'Detected',
    'DetectionResult',
    'Match',
    'PersonSearchInferencer',
    'QueryBox',
    'SearchResult',
    'Skipped',
    'Turned',
    'init_model',
    'load_config',
    'read_match',
]
