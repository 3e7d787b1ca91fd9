"""A re-identification network as it was published: an ONNX or OpenVINO file that turns crops of people into vectors."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.structures import SampleList
from PIL import Image
from torch import Tensor

from mmps_kd.errors import UserError, check_choice

from ..utils.checkpoint_io import file_sha256
from .teacher import normalisation

IMAGENET = dict(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))


@dataclass(frozen=True)
class CropFormat:
    """What a network expects of a crop.

    Attributes:
        color: Order of the channels, ``rgb`` or ``bgr``.
        mean: Subtracted from pixels 0..255, in the order of the channels.
        std: Pixels are divided by it afterwards.
        resize: ``opencv`` or ``opencv-cubic``; ``pillow``: bilinear over all pixels that fall together.
        size: Height and width in pixels; None: what the file says.
    """

    color: str = 'rgb'
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    resize: str = 'opencv'
    size: tuple[int, int] | None = None


PRESETS = {
    'osnet': CropFormat('rgb', **IMAGENET, resize='pillow', size=(256, 128)),
    'omz': CropFormat('bgr'),
    'fastreid': CropFormat('rgb', resize='opencv-cubic'),
}
"""torchreid's networks; those of the Open Model Zoo; FastReID's exported ones, which normalise by themselves."""


class ReIDNetwork:
    """A re-identification network, run by onnxruntime (.onnx) or OpenVINO (.xml, with .bin beside it).

    Args:
        path: The file.
        preset: A key of :data:`PRESETS`.
        **changes: Fields of :class:`CropFormat` that differ from it.

    Raises:
        UserError: If the file is missing, no such network, or its package is not installed.
    """

    def __init__(self, path: str | os.PathLike, preset: str = 'osnet', **changes) -> None:
        check_choice('preset', preset, PRESETS)
        if not Path(path).is_file():
            raise UserError(f'there is no re-identification network {path}')
        runs = {'.onnx': _run_onnx, '.xml': _run_openvino}
        suffix = Path(path).suffix
        if suffix not in runs:
            raise UserError(f'{path} is no .onnx file and no .xml file of OpenVINO: export the network to one of them')
        try:
            self._run, shape = runs[suffix](str(path))
        except ImportError as error:
            raise UserError(f'{path} needs {error.name}: pip install -r requirements/onnx.txt') from None
        except Exception as error:  # each package has its own errors
            raise UserError(f'{path} cannot be read: {str(error).splitlines()[0]}') from None
        self.format = replace(PRESETS[preset], **changes)
        check_choice('color', self.format.color, ['rgb', 'bgr'])
        size = self.format.size or shape[2:]
        if len(shape) != 4 or shape[1] not in (3, None) or None in size:
            raise UserError(f'{path} takes inputs of {shape}: one input of (N, 3, H, W) is needed, or say its size')
        if any(own not in (None, given) for own, given in zip(shape[2:], size, strict=True)):
            raise UserError(f'{path} takes crops of {shape[2]}x{shape[3]} pixels, not of {size[0]}x{size[1]}')
        self.format, self._one_by_one = replace(self.format, size=tuple(size)), shape[0] == 1

    def prepare(self, crop: np.ndarray) -> np.ndarray:
        """Bring a crop (h, w, 3) uint8 BGR to the network's input (3, H, W) float32."""
        form, (height, width) = self.format, self.format.size
        if form.resize == 'pillow':
            crop = np.asarray(Image.fromarray(crop).resize((width, height), Image.Resampling.BILINEAR))
        else:
            cubic = form.resize == 'opencv-cubic'
            crop = cv2.resize(crop, (width, height), interpolation=cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR)
        pixels = crop[..., ::-1] if form.color == 'rgb' else crop
        normalised = (pixels - np.array(form.mean, np.float32)) / np.array(form.std, np.float32)
        return normalised.transpose(2, 0, 1).astype(np.float32)

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Vectors (N, D) float32 of inputs (N, 3, H, W), as the network gives them."""
        parts = np.split(inputs, len(inputs)) if self._one_by_one else [inputs]
        return np.concatenate([self._run(part).reshape(len(part), -1) for part in parts])

    def embed(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Unit vectors (N, D) float32 of crops (h, w, 3) uint8 BGR."""
        vectors = self(np.stack([self.prepare(crop) for crop in crops]))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class ReIDTeacher:
    """A re-identification network that embeds crops of the student's RoIs in each step, at ``roi.embedding``.

    What it sees are the student's own input images: augmented and resized, at most as sharp as training images are. A
    table of its vectors (:class:`BoxLUT`) costs nothing in a step and is of the images as stored.

    Args:
        network: File of the network.
        preprocessor: The student's data preprocessor.
        preset: As for :class:`ReIDNetwork`.
        **changes: As for :class:`ReIDNetwork`.

    Raises:
        UserError: As :class:`ReIDNetwork`.
    """

    answers = 'embeddings'

    def __init__(self, network: str, preprocessor: torch.nn.Module, preset: str = 'osnet', **changes) -> None:
        self.network, self.preprocessor = ReIDNetwork(network, preset, **changes), preprocessor
        self.config, self.sha256 = Path(network).name, file_sha256(network)
        self.dim = self.network(np.zeros((1, 3, *self.network.format.size), np.float32)).shape[1]

    def __deepcopy__(self, memo: dict) -> Any:
        """An averaged copy of the student asks the same network."""
        return self

    def extract_feat(self, inputs: Tensor, samples: SampleList | None = None) -> tuple[Tensor, ...]:
        """What crops are cut from: the images (B, H, W, 3) uint8 BGR, on the CPU."""
        mean, std, is_rgb, _ = normalisation(self.preprocessor)
        pixels = (inputs * std + mean).round().clamp(0, 255).byte()
        return ((pixels.flip(1) if is_rgb else pixels).permute(0, 2, 3, 1).cpu(),)

    def embed(self, x: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        """(R, D) unit vectors of RoIs (R, 5) in the images of :meth:`extract_feat`."""
        if not len(rois):
            return rois.new_zeros(0, self.dim)
        (images,) = x
        height, width = images.shape[1:3]
        crops = []
        for index, x1, y1, x2, y2 in rois.tolist():
            # A RoI at the border keeps a pixel at least.
            box = [min(max(x1, 0), width - 1), min(max(y1, 0), height - 1), min(x2, width), min(y2, height)]
            crops.append(crop(images[int(index)].numpy(), [*box[:2], max(box[2], box[0] + 1), max(box[3], box[1] + 1)]))
        return torch.from_numpy(self.network.embed(crops)).to(rois)


def crop(image: np.ndarray, box: list[float]) -> np.ndarray:
    """The pixels that a box touches.

    Args:
        image: (H, W, 3).
        box: x1, y1, x2, y2 in pixels, inside the image.
    """
    x1, y1 = (math.floor(value) for value in box[:2])
    x2, y2 = (math.ceil(value) for value in box[2:])
    return image[y1:y2, x1:x2]


def _run_onnx(path: str) -> tuple[Callable[[np.ndarray], np.ndarray], list]:
    """How to run a file, and the shape of its input; None for what is not fixed."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=onnxruntime.get_available_providers())
    (given,) = session.get_inputs()
    name, shape = given.name, [size if isinstance(size, int) else None for size in given.shape]
    return lambda inputs: session.run(None, {name: inputs})[0], shape


def _run_openvino(path: str) -> tuple[Callable[[np.ndarray], np.ndarray], list]:
    import openvino

    model = openvino.Core().read_model(path)
    shape = model.input().partial_shape
    shape[0] = -1
    model.reshape(shape)
    # On some processors OpenVINO's own choice is half precision.
    compiled = openvino.compile_model(model, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    return lambda inputs: compiled(inputs)[0], [None if size.is_dynamic else size.get_length() for size in shape]
