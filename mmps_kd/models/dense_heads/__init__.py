"""Proposal heads of person search."""

from .qrpn_head import QRPN, QRPNOutputs, mark_queries
from .rounded_anchor_generator import RoundedAnchorGenerator
from .sampled_rpn_head import RPNOutputs, SampledRPNHead

__all__ = ['QRPN', 'QRPNOutputs', 'RPNOutputs', 'RoundedAnchorGenerator', 'SampledRPNHead', 'mark_queries']
