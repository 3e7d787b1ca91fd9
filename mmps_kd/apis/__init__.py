"""What tools and notebooks call."""

from .init_model import init_model, load_config
from .person_search_inferencer import PersonSearchInferencer
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
