"""Reading a MATLAB struct array element by element.

TestG4000.mat lists 11.6 million images, which take many GB all together; one element at a time takes a few MB.
"""

import io
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from struct import unpack
from typing import Any, BinaryIO

import numpy as np

from mmps_kd.errors import UserError

from .mat_elements import COMPRESSED, HEADER_SIZE, field_names, parse_matrix

_BLOCK = 1 << 16


def iterate_structs(path: Path, key: str) -> Iterator[dict[str, Any]]:
    """Yield the elements of the struct array that is the first variable of a file.

    Values are those of :func:`~mmps_kd.datasets.annotations.mat_elements.parse_matrix`.

    Raises:
        UserError: If the first variable has another name.
    """
    with open(path, 'rb') as file:
        file.seek(HEADER_SIZE)
        kind, _ = unpack('<II', _exactly(file, 8))
        stream = io.BufferedReader(_Inflated(file)) if kind == COMPRESSED else file
        if kind == COMPRESSED:
            _exactly(stream, 8)  # the tag of the variable itself
        _, dimensions, name, length, names = (_read_element(stream) for _ in range(5))
        if name.decode() != key:
            raise UserError(f'{path} has no variable {key} but {name.decode()}; get the official file')
        keys, leaf = field_names(length, names), _cached_parser()
        for _ in range(np.frombuffer(dimensions, '<i4').prod()):
            yield {field: parse_matrix(_read_element(stream), leaf) for field in keys}


class _Inflated(io.RawIOBase):
    """What a compressed variable holds, read on without ever being whole in memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._zlib = file, zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        data = b''
        while not data and not self._zlib.eof:
            packed = self._zlib.unconsumed_tail or self._file.read(_BLOCK)
            data = self._zlib.decompress(packed, len(buffer))
            if not packed and not data:
                break
        buffer[: len(data)] = data
        return len(data)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    """Read block by block: memory is asked for as data comes, not as a damaged file claims."""
    blocks = []
    while size:
        block = stream.read(min(size, _BLOCK))
        if not block:
            raise EOFError('the file ends too early')
        blocks.append(block)
        size -= len(block)
    return b''.join(blocks)


def _read_element(stream: BinaryIO) -> bytes:
    """The data of the next element, see :func:`~mmps_kd.datasets.annotations.mat_elements.read_element`."""
    tag = _exactly(stream, 8)
    kind, size = unpack('<II', tag)
    if kind >> 16:
        return tag[4 : 4 + (kind >> 16)]
    return _exactly(stream, size + -size % 8)[:size]


def _cached_parser() -> Callable[[bytes], Any]:
    """Image names come back thousands of times: parse equal bytes once."""

    @cache
    def parse(content: bytes) -> Any:
        return parse_matrix(content, parse)

    return parse
