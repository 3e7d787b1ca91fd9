"""Metrics for MMEngine's evaluator."""

from .base_search_metric import BaseSearchMetric
from .person_detection_metric import PersonDetectionMetric
from .query_guided_metric import QueryGuidedSearchMetric
from .search_metric import SearchMetric

__all__ = ['BaseSearchMetric', 'PersonDetectionMetric', 'QueryGuidedSearchMetric', 'SearchMetric']
