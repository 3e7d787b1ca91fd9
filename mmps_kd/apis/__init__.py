"""What tools and notebooks call."""

from .person_search_inferencer import PersonSearchInferencer
from .results import Detected, DetectionResult, Match, SearchResult, Skipped, Turned

__all__ = ['Detected', 'DetectionResult', 'Match', 'PersonSearchInferencer', 'SearchResult', 'Skipped', 'Turned']
