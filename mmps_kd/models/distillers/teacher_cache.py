"""What a teacher says of an image, kept on disk for the next epoch or the next student."""

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from mmengine.dist import get_world_size
from mmengine.logging import MMLogger
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mmps_kd.errors import UserError
from mmps_kd.fileio import atomic_write


class TeacherCache:
    """A folder with a safetensors file for each image that a teacher has seen.

    An image is known by its pixels as they enter the teacher, padding included. So what is read is what the teacher
    would say now, whatever the augmentation: a pipeline that flips alone finds each image after two epochs or so, one
    that draws sizes and colours finds all images when a run with the same seed is repeated.

    Args:
        folder: Where the files are; made if missing. Each teacher has a folder of its own in it.
        teacher: What tells this teacher from others, such as its config and the hash of its weights.
        max_gb: Size in 10^9 bytes that this teacher's files may reach; after that the teacher runs for images that are
            not there. Of several processes each has its share of what is left.

    Raises:
        UserError: If the folder cannot be written.
    """

    def __init__(self, folder: str, teacher: str, max_gb: float = 50.0) -> None:
        self.folder = Path(folder) / hashlib.sha256(teacher.encode()).hexdigest()[:16]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f'teacher.cache: {self.folder} cannot be made ({error.strerror})') from None
        used = sum(file.stat().st_size for file in self.folder.glob('*.safetensors'))
        self.room = (1e9 * max_gb - used) / get_world_size()

    def answers(
        self, images: Tensor, kind: str, compute: Callable[[list[int]], list[dict[str, Tensor]]]
    ) -> list[dict[str, Tensor]]:
        """The teacher's answers about images; those that are not there are computed and kept.

        Args:
            images: (B, 3, H, W) as they enter the teacher.
            kind: What is asked, part of the files' names.
            compute: Gives the answers about the images of these indices.

        Returns:
            Tensors by name for each image, on the device of ``images``.
        """
        device = images.device
        amp = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else images.dtype
        kind = f'{kind}_{str(amp).removeprefix("torch.")}_{"x".join(map(str, images.shape[2:]))}'
        files = [self.folder / f'{kind}_{digest([image])}.safetensors' for image in images.cpu()]
        found = [self._read(file) for file in files]
        missing = [index for index, known in enumerate(found) if known is None]
        if missing:
            for index, computed in zip(missing, compute(missing), strict=True):
                found[index] = computed
                self._write(files[index], {name: value.cpu().contiguous() for name, value in computed.items()})
        return [{name: value.to(device) for name, value in known.items()} for known in found]

    def _read(self, file: Path) -> dict[str, Tensor] | None:
        """What a file holds; None if there is none. One that is damaged is removed."""
        try:
            with safe_open(file, framework='pt') as opened:
                tensors = {name: opened.get_tensor(name) for name in sorted(opened.keys())}
                if opened.metadata() == dict(blake2b=digest(tensors.values())):
                    return tensors
        except FileNotFoundError:
            return None
        except SafetensorError:
            pass
        MMLogger.get_current_instance().warning(f'{file} is damaged and is made again')
        self.room += file.stat().st_size
        file.unlink()
        return None

    def _write(self, file: Path, tensors: dict[str, Tensor]) -> None:
        """Keep tensors unless the folder is full."""
        content = save(tensors, dict(blake2b=digest(tensors[name] for name in sorted(tensors))))
        if len(content) > self.room:
            if self.room > 0:
                MMLogger.get_current_instance().warning(
                    f'{self.folder} is full: from here on the teacher runs for images that are not in it; raise '
                    'teacher.cache.max_gb to keep more'
                )
            self.room = 0
            return
        try:
            with atomic_write(file, suffix=f'.{os.getpid()}') as opened:
                opened.write(content)
        except OSError as error:
            raise UserError(f'teacher.cache: {file} cannot be written ({error.strerror})') from None
        self.room -= len(content)


def digest(tensors: Iterable[Tensor]) -> str:
    """Hash of the bytes of tensors on the CPU, in hexadecimal digits."""
    state = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        state.update(tensor.contiguous().view(torch.uint8).numpy())
    return state.hexdigest()
