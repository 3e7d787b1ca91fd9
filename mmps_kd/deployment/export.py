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


def export_program(
    model: PersonSearchRCNN, task: str = 'detect', dtype: torch.dtype = torch.uint8, any_score_thr: bool = False
) -> ExportedProgram:
    """Turn a model into a program of torch for one image of any size.

    Args:
        model: On the CPU, left as it is.
        task: ``detect``, see :class:`SearchGraph`, or ``embed``, see :class:`EmbedGraph`.
        dtype: Of the image, ``uint8`` or ``float32``.
        any_score_thr: To detect: the score threshold is an input, ``score_thr``, not the model's own.

    Raises:
        UserError: If the model is to detect and suppresses boxes by anything but plain NMS.
    """
    # Of the examples only type and rank count: both sides and the number of boxes are dynamic.
    image = torch.zeros(480, 640, 3, dtype=dtype)
    shapes = dict(image={0: Dim.AUTO, 1: Dim.AUTO})
    if task == 'detect':
        inputs = (image,)
        if any_score_thr:
            inputs, shapes['score_thr'] = (image, torch.tensor(0.5)), None
        return torch.export.export(SearchGraph(model), inputs, dynamic_shapes=shapes)
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
        translations = onnx_translations()
    except ImportError:
        raise UserError('writing ONNX needs onnx and onnxscript: pip install -r requirements/onnx.txt') from None
    exported = torch.onnx.export(
        program,
        input_names=INPUTS[task],
        output_names=OUTPUTS[task],
        opset_version=OPSET,
        custom_translation_table=translations,
        verbose=False,
    )
    exported.model.metadata_props['task'] = task
    exported.save(path, external_data=False)


def onnx_translations() -> dict:
    """This package's operators in operators of the ONNX standard.

    Raises:
        ImportError: If onnxscript is not installed.
    """
    from onnxscript import opset18 as op

    def nms(boxes, scores, iou_thr: float, score_thr: float, max_num: int):
        """:func:`mmps_kd.deployment.ops.nms`."""
        first = op.Constant(value_ints=[0])
        rows = op.NonMaxSuppression(
            op.Unsqueeze(boxes, first),
            op.Unsqueeze(scores, op.Constant(value_ints=[0, 1])),
            op.Constant(value_ints=[max_num]),
            op.Constant(value_floats=[iou_thr]),
            op.Constant(value_floats=[score_thr]),
        )
        # Rows are image, class and index of a box.
        return op.Gather(rows, op.Constant(value_int=2), axis=1)

    def roi_align(feats, rois, height: int, width: int, spatial_scale: float, samples: int, aligned: bool):
        """:func:`mmps_kd.deployment.ops.roi_align`."""
        first = op.Constant(value_ints=[0])
        count = op.Shape(rois, start=0, end=1)
        return op.RoiAlign(
            feats,
            rois,
            op.Expand(first, count),
            coordinate_transformation_mode='half_pixel' if aligned else 'output_half_pixel',
            output_height=height,
            output_width=width,
            sampling_ratio=samples,
            spatial_scale=spatial_scale,
        )

    return {torch.ops.mmps_kd.nms.default: nms, torch.ops.mmps_kd.roi_align.default: roi_align}
