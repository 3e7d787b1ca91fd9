"""Trained models for use elsewhere: ONNX and torch.export."""

from .export import export_program, write_onnx
from .runtime import PRECISIONS, GraphRunner, add_backend_options, check_backend, prepare_for_cpu
from .search_graph import EmbedGraph, SearchGraph

__all__ = [
    'PRECISIONS',
    'EmbedGraph',
    'GraphRunner',
    'SearchGraph',
    'add_backend_options',
    'check_backend',
    'export_program',
    'prepare_for_cpu',
    'write_onnx',
]
