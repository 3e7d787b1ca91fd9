"""Evaluation of person search: the rules in NumPy (functional) and their MMEngine face (metrics)."""

from importlib.util import find_spec

if find_spec('mmdet') is not None:
    from .metrics import *  # noqa: F403
