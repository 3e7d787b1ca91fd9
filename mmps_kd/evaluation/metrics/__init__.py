"""Metrics for MMEngine's evaluator."""

from .search_metric import SearchMetric

__all__ = ['SearchMetric']
