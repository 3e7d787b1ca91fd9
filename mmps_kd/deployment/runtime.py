"""How a trained model is run: by PyTorch, or by onnxruntime or OpenVINO from its exported graphs."""

import argparse
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from mmcv.cnn import fuse_conv_bn
from torch import nn

from mmps_kd.errors import UserError
from mmps_kd.models.detectors import PersonSearchRCNN

from .export import OUTPUTS, export_program, write_onnx

PRECISIONS = dict(torch=('fp32', 'bf16'), onnxruntime=('fp32',), openvino=('fp32', 'bf16'))
"""The backends, and in which precisions each runs."""


def check_backend(backend: str, precision: str) -> None:
    """Refuse what is not in :data:`PRECISIONS`.

    Raises:
        UserError: Naming what there is.
    """
    if backend not in PRECISIONS:
        raise UserError(f'backend={backend!r} does not exist: choose one of {", ".join(PRECISIONS)}')
    if precision not in PRECISIONS[backend]:
        choices = ' or '.join(PRECISIONS[backend])
        raise UserError(f'precision={precision!r} does not exist for backend {backend}: choose {choices}')


def add_backend_options(parser: argparse.ArgumentParser) -> None:
    """Give a tool the options ``--backend`` and ``--precision``."""
    parser.add_argument('--backend', choices=PRECISIONS, default='torch', help='what runs the model, default: torch')
    parser.add_argument('--precision', choices=['fp32', 'bf16'], default='fp32', help='default: fp32')


def prepare_for_cpu(model: nn.Module) -> None:
    """Make a model in eval mode faster on a CPU, in place; what it gives changes by rounding alone.

    Batch norm is multiplied into the convolution before it, as mmcv does, and maps are kept in ``channels_last``.
    """
    fuse_conv_bn(model)
    model.to(memory_format=torch.channels_last)


class GraphRunner:
    """A model's graphs in onnxruntime or OpenVINO, on the CPU with as many threads as torch has.

    Each is written as an ONNX file when it is first needed, which takes some seconds, and read from there afterwards.

    Args:
        model: On the CPU, left as it is.
        backend: ``onnxruntime`` or ``openvino``.
        precision: See :data:`PRECISIONS`.
        stem: Path of the files without ``_detect.onnx`` and ``_embed.onnx``; it has to tell models apart.

    Raises:
        UserError: If the backend is not installed.
    """

    def __init__(self, model: PersonSearchRCNN, backend: str, precision: str, stem: str | os.PathLike) -> None:
        self.model, self.precision, self.stem = model, precision, str(stem)
        try:
            self._open = dict(onnxruntime=_onnxruntime_opener, openvino=_openvino_opener)[backend]()
        except ImportError:
            raise UserError(f'backend {backend} is not installed: pip install -r requirements/onnx.txt') from None
        self._graphs: dict[str, Callable[[dict], list[np.ndarray]]] = {}

    def detect(self, image: np.ndarray, score_thr: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (N, 4), scores (N,) and embeddings (N, D), float32; see :class:`SearchGraph`.

        Raises:
            UserError: If the model cannot be exported, or its file not be written.
        """
        return tuple(self._run('detect', image=image, score_thr=np.array(score_thr, np.float32)))

    def embed(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Embeddings (N, D) float32 of boxes (N, 4) float32; see :class:`EmbedGraph`.

        Raises:
            UserError: As :meth:`detect`.
        """
        return self._run('embed', image=image, boxes=boxes)[0]

    def _run(self, task: str, **inputs: np.ndarray) -> list[np.ndarray]:
        if task not in self._graphs:
            path = Path(f'{self.stem}_{task}.onnx')
            if not path.is_file():
                self._write(path, task, torch.from_numpy(inputs['image']).dtype)
            self._graphs[task] = self._open(path, OUTPUTS[task], self.precision)
        return self._graphs[task](inputs)

    def _write(self, path: Path, task: str, dtype: torch.dtype) -> None:
        """Export; the file is there as a whole or not at all."""
        # It notes each operator of torchvision, which is not used, as missing.
        logging.getLogger('torch.onnx').setLevel(logging.ERROR)
        program = export_program(self.model, task, dtype, any_score_thr=True)
        temporary = path.with_name(f'{path.name}.{os.getpid()}.tmp')
        try:
            write_onnx(program, temporary, task)
            temporary.replace(path)
        except OSError as error:
            raise UserError(
                f'cannot write {path}: {error.strerror}: name another folder for the exported model, export_dir'
            ) from None
        finally:
            temporary.unlink(missing_ok=True)


def _onnxruntime_opener() -> Callable[[Path, tuple, str], Callable[[dict], list[np.ndarray]]]:
    import onnxruntime

    def open_graph(path: Path, outputs: tuple, _: str) -> Callable[[dict], list[np.ndarray]]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
        return lambda inputs: session.run(list(outputs), inputs)

    return open_graph


def _openvino_opener() -> Callable[[Path, tuple, str], Callable[[dict], list[np.ndarray]]]:
    import openvino

    def open_graph(path: Path, outputs: tuple, precision: str) -> Callable[[dict], list[np.ndarray]]:
        # Left to itself OpenVINO takes bf16 where the processor has it.
        options = {
            'INFERENCE_PRECISION_HINT': dict(fp32='f32', bf16='bf16')[precision],
            'INFERENCE_NUM_THREADS': torch.get_num_threads(),
        }
        compiled = openvino.Core().compile_model(path, 'CPU', options)

        def run(inputs: dict) -> list[np.ndarray]:
            found = compiled(inputs)
            return [found[name] for name in outputs]

        return run

    return open_graph
