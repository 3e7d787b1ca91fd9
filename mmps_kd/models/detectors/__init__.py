"""Person-search detectors."""

from .person_search_rcnn import PersonSearchRCNN  # isort: skip  the distillers need it
from .person_search_distiller import PersonSearchDistiller
from .qeeps import QEEPS, QueryState

__all__ = ['PersonSearchDistiller', 'PersonSearchRCNN', 'QEEPS', 'QueryState']
