"""A trained model as a file that runs without this package's Python."""

import os

import torch
from torch.export import Dim, ExportedProgram

from mmps_kd.errors import UserError
from mmps_kd.models.detectors import PersonSearchRCNN

from .search_graph import SearchGraph

OUTPUTS = ('boxes', 'scores', 'embeddings')
OPSET = 18


def export_program(model: PersonSearchRCNN) -> ExportedProgram:
    """Turn a model into a program of torch for images of any size; see :class:`SearchGraph` for what it takes.

    Args:
        model: On the CPU, left as it is.

    Raises:
        UserError: If the model suppresses boxes by anything but plain NMS.
    """
    # Of the example only type and rank count: both sides are dynamic.
    example = torch.zeros(480, 640, 3, dtype=torch.uint8)
    shapes = dict(image={0: Dim.AUTO, 1: Dim.AUTO})
    return torch.export.export(SearchGraph(model), (example,), dynamic_shapes=shapes)


def write_onnx(program: ExportedProgram, path: str | os.PathLike) -> None:
    """Write a program as ONNX, in operators of the standard alone.

    Args:
        program: Of :func:`export_program`.
        path: The file; input ``image``, outputs ``boxes``, ``scores`` and ``embeddings``.

    Raises:
        UserError: If the libraries for it are not installed.
    """
    try:
        from .onnx_ops import TRANSLATIONS
    except ImportError:
        raise UserError('writing ONNX needs onnx and onnxscript: pip install -r requirements/onnx.txt') from None
    torch.onnx.export(
        program,
        f=path,
        input_names=['image'],
        output_names=OUTPUTS,
        opset_version=OPSET,
        custom_translation_table=TRANSLATIONS,
        external_data=False,
        verbose=False,
    )
