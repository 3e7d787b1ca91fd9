"""Pictures of person search."""

from .ranking import RankingPicture, draw_ranking

__all__ = ['RankingPicture', 'draw_ranking']
