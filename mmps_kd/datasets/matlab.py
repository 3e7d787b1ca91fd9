"""Reader of MATLAB 5 files, whole or one struct at a time, with errors that name the file.

Format: "MAT-File Level 5 File Format", MathWorks. A file is a sequence of elements, each a tag (type and size) and its
data; a variable is a matrix element, which is made of elements again. The reader is plain Python because
``scipy.io.loadmat`` (seen with 1.17) can end the process on a damaged file, and because it reads a file whole:
TestG4000.mat lists 11.6 million images, many GB in memory, while one struct at a time takes a few MB.
"""

import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from struct import unpack
from typing import Any, BinaryIO

import numpy as np

from mmps_kd.errors import UserError
from mmps_kd.structures.annotations import CONTROL_CHARACTERS

_HEADER_SIZE, _BLOCK = 128, 1 << 16
_MATRIX, _COMPRESSED = 14, 15
_CELL_CLASS, _STRUCT_CLASS, _CHAR_CLASS, _NUMBER_CLASSES = 1, 2, 4, range(6, 16)
_ENCODINGS = {1: 'latin-1', 2: 'latin-1', 4: 'utf-16-le', 16: 'utf-8', 17: 'utf-16-le'}
_DTYPES = {1: 'i1', 2: 'u1', 3: '<i2', 4: '<u2', 5: '<i4', 6: '<u4', 7: '<f4', 9: '<f8', 12: '<i8', 13: '<u8'}


def require_file(path: Path) -> None:
    """Raise :class:`UserError` if a file of the official download is missing."""
    if not path.is_file():
        raise UserError(f'{path}: no such file; check data_root, the layout is in docs/datasets.md')


@contextmanager
def name_damaged_file(path: Path) -> Iterator[None]:
    """Turn any error while an official file is read into one line that names the file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # from struct.error to zlib.error, depending on where the damage is
        reason = f'{type(error).__name__}: {error}'.splitlines()[0]
        raise UserError(f'{path} is truncated, damaged or not the official file ({reason}); get it again') from error


def load_mat(path: Path, *keys: str) -> Any:
    """Load a variable of a MATLAB file.

    Args:
        path: The file.
        *keys: Names that the variable may have; the first that is in the file is taken.

    Returns:
        A str; an array with the dimensions of the file; a list of dicts for a struct array and of values for a cell
        array, both in the order of the file; or None where it is empty.

    Raises:
        UserError: If the file is missing or damaged, or has none of the names.
    """
    require_file(path)
    with name_damaged_file(path):
        variables = dict(_iterate_variables(path.read_bytes()))
        for key in keys:
            if key in variables:
                return _parse_matrix(variables[key])
    found = ', '.join(variables) or 'none'
    raise UserError(f'{path} has no variable {" or ".join(keys)}, only: {found}; get the official file')


def iterate_structs(path: Path, key: str) -> Iterator[dict[str, Any]]:
    """Yield the elements of the struct array that is the first variable of a file.

    Values are those of :func:`load_mat`. The file is never in memory as a whole.

    Raises:
        UserError: If the first variable has another name, or the file is damaged.
    """
    with name_damaged_file(path), open(path, 'rb') as file:
        file.seek(_HEADER_SIZE)
        stream: BinaryIO = file
        kind, _ = unpack('<II', _read_exactly(file, 8))
        if kind == _COMPRESSED:
            stream = io.BufferedReader(_Inflated(file))
            _read_exactly(stream, 8)  # the tag of the variable itself
        _, dimensions, name = _read_matrix_header(stream)
        if name != key:
            raise UserError(f'{path} has no variable {key} but {name}; get the official file')
        fields = _read_field_names(stream)

        @cache  # the same image names and empty boxes come thousands of times: parse equal bytes once
        def parse(content: bytes) -> Any:
            return _parse_matrix(content, parse)

        for _ in range(dimensions.prod()):
            # The field itself (a whole gallery) is parsed without the cache, which would keep its bytes.
            yield {field: _parse_matrix(_read_element(stream)[1], parse) for field in fields}


def to_names(values: list) -> np.ndarray:
    """Names (N,) str.

    Raises:
        ValueError: If one of them is no text, or has control characters.
    """
    if not all(isinstance(value, str) and not CONTROL_CHARACTERS.search(value) for value in values):
        raise ValueError('a name is no text')
    return np.array(values, dtype=np.str_)


def _iterate_variables(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and matrix element of each variable of a file."""
    if content[_HEADER_SIZE - 4 : _HEADER_SIZE] != b'\x00\x01IM':  # version 5, little-endian
        raise ValueError('no MATLAB 5 file')
    for kind, data in _iterate_elements(io.BytesIO(content[_HEADER_SIZE:])):
        if kind == _COMPRESSED:
            kind, data = _read_element(io.BytesIO(zlib.decompress(data)))
        if kind == _MATRIX:
            yield _read_matrix_header(io.BytesIO(data))[2], data


def _parse_matrix(content: bytes, parse_part: Callable[[bytes], Any] | None = None) -> Any:
    """The value of a matrix element, see :func:`load_mat`.

    Args:
        content: The element without its tag.
        parse_part: What parses the fields of structs and the cells; this very function by default.
    """
    if not content:
        return None
    parse_part = parse_part or _parse_matrix
    stream = io.BytesIO(content)
    matrix_class, dimensions, _ = _read_matrix_header(stream)
    if matrix_class == _STRUCT_CLASS:
        fields = _read_field_names(stream)
        values = [parse_part(data) for _, data in _iterate_elements(stream)]
        n = len(fields)
        return [dict(zip(fields, values[i : i + n], strict=True)) for i in range(0, len(values), n)] or None
    if matrix_class == _CELL_CLASS:
        return [parse_part(data) for _, data in _iterate_elements(stream)] or None
    if matrix_class != _CHAR_CLASS and matrix_class not in _NUMBER_CLASSES:
        raise ValueError(f'a variable is of class {matrix_class}')
    kind, data = _read_element(stream)
    if not data:
        return None
    if matrix_class == _CHAR_CLASS:
        return data.decode(_ENCODINGS[kind])
    return np.frombuffer(data, _DTYPES[kind]).reshape(dimensions, order='F')


def _read_matrix_header(stream: BinaryIO) -> tuple[int, np.ndarray, str]:
    """Class, dimensions and name at the beginning of a matrix element."""
    (_, flags), (_, dimensions), (_, name) = (_read_element(stream) for _ in range(3))
    return flags[0], np.frombuffer(dimensions, '<i4'), name.decode()


def _read_field_names(stream: BinaryIO) -> list[str]:
    """Field names of a struct array, each padded to the same length."""
    (_, length), (_, names) = (_read_element(stream) for _ in range(2))
    step = int.from_bytes(length, 'little')
    return [names[i : i + step].split(b'\0')[0].decode() for i in range(0, len(names), step)]


def _iterate_elements(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    while tag := stream.read(8):
        yield _read_element(stream, tag)


def _read_element(stream: BinaryIO, tag: bytes | None = None) -> tuple[int, bytes]:
    """Type and data of the next element, whose tag may be read already.

    Up to 4 bytes of data are packed into the 8 of the tag; more are padded to a multiple of 8, unless compressed.
    """
    tag = tag or _read_exactly(stream, 8)
    kind, size = unpack('<II', tag)
    if kind >> 16:
        return kind & 0xFFFF, tag[4 : 4 + (kind >> 16)]
    data = _read_exactly(stream, size)
    if size % 8 and kind != _COMPRESSED:
        stream.read(-size % 8)
    return kind, data


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    """Read block by block: a damaged size does not allocate more memory than the file holds."""
    data = stream.read(min(size, _BLOCK))
    if len(data) == size:  # nearly always: most elements have a few bytes
        return data
    blocks = [data]
    while size := size - len(blocks[-1]):
        if not blocks[-1]:
            raise EOFError('the file ends too early')
        blocks.append(stream.read(min(size, _BLOCK)))
    return b''.join(blocks)


class _Inflated(io.RawIOBase):
    """The content of a compressed variable, decompressed as it is read."""

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
