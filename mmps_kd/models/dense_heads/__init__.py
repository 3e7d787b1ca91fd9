"""Proposal heads of person search."""

from .sampled_rpn_head import RPNOutputs, SampledRPNHead

__all__ = ['RPNOutputs', 'SampledRPNHead']
