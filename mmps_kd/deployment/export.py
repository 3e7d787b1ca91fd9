"""A trained model as a file that runs without this package's Python."""

import os

import torch
from torch.export import Dim, ExportedProgram

from mmps_kd.errors import UserError
from mmps_kd.models.detectors import PersonSearchRCNN

from .search_graph import EmbedGraph, SearchGraph

INPUTS = dict(detect=('image',), embed=('image', 'boxes'))
OUTPUTS = dict(detect=('boxes', 'scores', 'embeddings'), embed=('embeddings',))
OPSET = 18


def export_program(model: PersonSearchRCNN, task: str = 'detect') -> ExportedProgram:
    """Turn a model into a program of torch for one image of any size.

    Args:
        model: On the CPU, left as it is.
        task: ``detect``, see :class:`SearchGraph`, or ``embed``, see :class:`EmbedGraph`.

    Raises:
        UserError: If the model is to detect and suppresses boxes by anything but plain NMS.
    """
    # Of the examples only type and rank count: both sides and the number of boxes are dynamic.
    image = torch.zeros(480, 640, 3, dtype=torch.uint8)
    shapes = dict(image={0: Dim.AUTO, 1: Dim.AUTO})
    if task == 'detect':
        return torch.export.export(SearchGraph(model), (image,), dynamic_shapes=shapes)
    shapes['boxes'] = {0: Dim.DYNAMIC}
    return torch.export.export(EmbedGraph(model), (image, torch.ones(3, 4)), dynamic_shapes=shapes)


def write_onnx(program: ExportedProgram, path: str | os.PathLike, task: str = 'detect') -> None:
    """Write a program as ONNX, in operators of the standard alone.

    Args:
        program: Of :func:`export_program`.
        path: The file; to detect input ``image`` and outputs ``boxes``, ``scores`` and ``embeddings``, to embed
            inputs ``image`` and ``boxes`` and output ``embeddings``. Its metadata has the ``task``.
        task: That of the program.

    Raises:
        UserError: If the libraries for it are not installed.
    """
    try:
        from .onnx_ops import TRANSLATIONS
    except ImportError:
        raise UserError('writing ONNX needs onnx and onnxscript: pip install -r requirements/onnx.txt') from None
    exported = torch.onnx.export(
        program,
        input_names=INPUTS[task],
        output_names=OUTPUTS[task],
        opset_version=OPSET,
        custom_translation_table=TRANSLATIONS,
        verbose=False,
    )
    exported.model.metadata_props['task'] = task
    exported.save(path, external_data=False)
