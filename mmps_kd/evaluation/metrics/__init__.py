"""Metrics for MMEngine's evaluator."""

from .person_detection_metric import PersonDetectionMetric
from .search_metric import SearchMetric

__all__ = ['PersonDetectionMetric', 'SearchMetric']
