"""Knowledge distillation for person search."""

from .lut_distiller import LUTDistiller
from .lut_file import LookUpTable, check_lut, identities_sha256, load_lut, save_lut

__all__ = ['LUTDistiller', 'LookUpTable', 'check_lut', 'identities_sha256', 'load_lut', 'save_lut']
