"""Trained models for use elsewhere: ONNX and torch.export."""

from .export import export_program, write_onnx
from .search_graph import SearchGraph

__all__ = ['SearchGraph', 'export_program', 'write_onnx']
