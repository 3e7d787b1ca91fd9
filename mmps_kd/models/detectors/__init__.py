"""Person-search detectors."""

from .person_search_distiller import PersonSearchDistiller
from .person_search_rcnn import PersonSearchRCNN
from .qeeps import QEEPS, QueryState
from .qeeps_distiller import QEEPSDistiller

__all__ = ['PersonSearchDistiller', 'PersonSearchRCNN', 'QEEPS', 'QEEPSDistiller', 'QueryState']
