"""Reading a MATLAB struct array element by element.

TestG4000.mat lists 11.6 million images. scipy builds three arrays for each, about 1 KB together, and so would need
11 GB; one element at a time takes a few MB. Format: "MAT-File Level 5 File Format", MathWorks.
"""

import io
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from struct import unpack, unpack_from
from typing import Any, BinaryIO

import numpy as np

from mmps_kd.errors import UserError

_HEADER_SIZE = 128
_COMPRESSED = 15
_STRUCT_CLASS, _CHAR_CLASS = 2, 4
_ENCODINGS = {1: 'latin-1', 2: 'latin-1', 4: 'utf-16-le', 16: 'utf-8', 17: 'utf-16-le'}
_DTYPES = {1: 'i1', 2: 'u1', 3: '<i2', 4: '<u2', 5: '<i4', 6: '<u4', 7: '<f4', 9: '<f8', 12: '<i8', 13: '<u8'}


def iterate_structs(path: Path, key: str) -> Iterator[dict[str, Any]]:
    """Yield the elements of the struct array that is the first variable of a file.

    A value is a str, a flat array (N,), a list of dicts (a struct array) or None (empty).

    Raises:
        UserError: If the first variable has another name.
    """
    with open(path, 'rb') as file:
        file.seek(_HEADER_SIZE)
        kind, _ = unpack('<II', _exactly(file, 8))
        stream = io.BufferedReader(_Inflated(file)) if kind == _COMPRESSED else file
        if kind == _COMPRESSED:
            _exactly(stream, 8)  # the tag of the variable itself
        _, dimensions, name, length, names = (_read_element(stream) for _ in range(5))
        if name.decode() != key:
            raise UserError(f'{path} has no variable {key} but {name.decode()}; get the official file')
        keys, leaf = _field_names(length, names), _cached_parser()
        for _ in range(np.frombuffer(dimensions, '<i4').prod()):
            yield {field: _parse(_read_element(stream), leaf) for field in keys}


class _Inflated(io.RawIOBase):
    """What a compressed variable holds, read on without ever being whole in memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._zlib = file, zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        data = b''
        while not data and not self._zlib.eof:
            packed = self._zlib.unconsumed_tail or self._file.read(1 << 16)
            data = self._zlib.decompress(packed, len(buffer))
            if not packed and not data:
                break
        buffer[: len(data)] = data
        return len(data)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError('the file ends too early')
    return data


def _read_element(stream: BinaryIO) -> bytes:
    """The data of the next element; up to 4 bytes are packed into the 8 of its tag, more are padded to 8."""
    tag = _exactly(stream, 8)
    kind, size = unpack('<II', tag)
    if kind >> 16:
        return tag[4 : 4 + (kind >> 16)]
    return _exactly(stream, size + -size % 8)[:size]


def _element(content: bytes, position: int) -> tuple[int, bytes, int]:
    """As :func:`_read_element`, from memory; gives type, data and the position behind it."""
    kind, size = unpack_from('<II', content, position)
    if kind >> 16:
        return kind & 0xFFFF, content[position + 4 : position + 4 + (kind >> 16)], position + 8
    stop = position + 8 + size
    return kind, content[position + 8 : stop], stop + -size % 8


def _cached_parser() -> Callable[[bytes], Any]:
    """Image names come back thousands of times: parse equal bytes once."""

    @cache
    def parse(content: bytes) -> Any:
        return _parse(content, parse)

    return parse


def _parse(content: bytes, parse_field: Callable[[bytes], Any]) -> Any:
    if not content:
        return None
    _, flags, position = _element(content, 0)
    _, _, position = _element(content, position)  # dimensions
    _, _, position = _element(content, position)  # name
    if flags[0] == _STRUCT_CLASS:
        return _parse_structs(content, position, parse_field)
    kind, data, _ = _element(content, position)
    if flags[0] == _CHAR_CLASS:
        return data.decode(_ENCODINGS[kind])
    return np.frombuffer(data, _DTYPES[kind]) if data else None


def _parse_structs(content: bytes, position: int, parse_field: Callable[[bytes], Any]) -> list[dict[str, Any]]:
    _, length, position = _element(content, position)
    _, names, position = _element(content, position)
    keys, values = _field_names(length, names), []
    while position < len(content):
        _, data, position = _element(content, position)
        values.append(parse_field(data))
    return [dict(zip(keys, values[i : i + len(keys)], strict=True)) for i in range(0, len(values), len(keys))]


def _field_names(length: bytes, names: bytes) -> list[str]:
    step = int.from_bytes(length, 'little')
    return [names[i : i + step].split(b'\0')[0].decode() for i in range(0, len(names), step)]
