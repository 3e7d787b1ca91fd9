"""Pipeline steps that know of person ids and queries."""

from .align_pids import AlignPids
from .formatting import PackPersonSearchInputs
from .loading import LoadPersonSearchAnnotations, LoadScene

__all__ = ['AlignPids', 'LoadPersonSearchAnnotations', 'LoadScene', 'PackPersonSearchInputs']
