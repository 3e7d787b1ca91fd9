"""Person-search detectors."""

from .person_search_distiller import PersonSearchDistiller
from .person_search_rcnn import PersonSearchRCNN
from .qeeps import QEEPS, QueryState

__all__ = ['PersonSearchDistiller', 'PersonSearchRCNN', 'QEEPS', 'QueryState']
