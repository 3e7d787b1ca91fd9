"""Knowledge distillation for person search."""

from .detection_file import DetectionFile
from .diagnostics import Diagnostics
from .lut import BoxLUT, LookUpTable, LUTDistiller, check_lut, identities_sha256, load_lut, save_lut
from .share_weights import ShareWeights

__all__ = [
    'BoxLUT',
    'DetectionFile',
    'Diagnostics',
    'LUTDistiller',
    'LookUpTable',
    'ShareWeights',
    'check_lut',
    'identities_sha256',
    'load_lut',
    'save_lut',
]
