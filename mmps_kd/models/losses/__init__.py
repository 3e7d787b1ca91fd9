"""Losses of person search."""

from .oim_loss import UNLABELLED, OIMLoss

__all__ = ['UNLABELLED', 'OIMLoss']
