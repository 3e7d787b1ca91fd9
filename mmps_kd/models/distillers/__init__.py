"""Knowledge distillation for person search."""

from .detection_file import DetectionFile
from .diagnostics import Diagnostics
from .lut import BoxLUT, LookUpTable, LUTDistiller, check_lut, identities_sha256, load_lut, save_lut
from .reid_network import ReIDNetwork, ReIDTeacher
from .share_weights import ShareWeights
from .teacher_cache import TeacherCache

__all__ = [
    'BoxLUT',
    'DetectionFile',
    'Diagnostics',
    'LUTDistiller',
    'LookUpTable',
    'ReIDNetwork',
    'ReIDTeacher',
    'ShareWeights',
    'TeacherCache',
    'check_lut',
    'identities_sha256',
    'load_lut',
    'save_lut',
]
