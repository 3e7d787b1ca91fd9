"""Knowledge distillation for person search."""

from .diagnostics import Diagnostics
from .lut_distiller import LUTDistiller
from .lut_file import LookUpTable, check_lut, identities_sha256, load_lut, save_lut
from .person_search_distiller import PersonSearchDistiller

__all__ = [
    'Diagnostics',
    'LUTDistiller',
    'LookUpTable',
    'PersonSearchDistiller',
    'check_lut',
    'identities_sha256',
    'load_lut',
    'save_lut',
]
