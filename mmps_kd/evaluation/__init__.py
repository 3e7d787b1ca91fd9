"""Evaluation of person search: the rules in NumPy (functional) and their MMEngine face (metrics)."""

from .metrics import *  # noqa: F403
