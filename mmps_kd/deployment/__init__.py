"""Trained models for use elsewhere: ONNX and torch.export."""

from .export import export_program, write_onnx
from .search_graph import EmbedGraph, SearchGraph

__all__ = ['EmbedGraph', 'SearchGraph', 'export_program', 'write_onnx']
