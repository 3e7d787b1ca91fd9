"""Metrics for MMEngine's evaluator."""

from .person_detection_metric import PersonDetectionMetric
from .query_guided_metric import QueryGuidedSearchMetric
from .search_metric import BaseSearchMetric, SearchMetric

__all__ = ['BaseSearchMetric', 'PersonDetectionMetric', 'QueryGuidedSearchMetric', 'SearchMetric']
