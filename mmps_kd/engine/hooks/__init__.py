"""Hooks of training and testing."""

from .atomic_checkpoint_hook import AtomicCheckpointHook
from .channels_last_hook import ChannelsLastHook
from .distillation_diagnostics_hook import DistillationDiagnosticsHook
from .distillation_hook import DistillationHook
from .identity_check_hook import IdentityCheckHook
from .interrupt_hook import InterruptHook
from .lut_hook import LUTHook
from .resume_hook import ResumeHook
from .score_threshold_hook import ScoreThresholdHook
from .visualization_hook import PersonSearchVisualizationHook

__all__ = [
    'AtomicCheckpointHook',
    'ChannelsLastHook',
    'DistillationDiagnosticsHook',
    'DistillationHook',
    'IdentityCheckHook',
    'InterruptHook',
    'LUTHook',
    'PersonSearchVisualizationHook',
    'ResumeHook',
    'ScoreThresholdHook',
]
