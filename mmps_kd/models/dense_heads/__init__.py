"""Proposal heads of person search."""

from .qrpn_head import QRPN, QRPNOutputs, mark_queries
from .sampled_rpn_head import RPNOutputs, SampledRPNHead

__all__ = ['QRPN', 'QRPNOutputs', 'RPNOutputs', 'SampledRPNHead', 'mark_queries']
