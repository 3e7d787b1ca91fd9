"""Loops of training, testing and validation."""

from .query_guided_loop import QueryGuidedTestLoop, QueryGuidedValLoop
from .resumable_train_loop import ResumableTrainLoop

__all__ = ['QueryGuidedTestLoop', 'QueryGuidedValLoop', 'ResumableTrainLoop']
