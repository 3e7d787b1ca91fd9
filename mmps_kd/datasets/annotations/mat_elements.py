"""Elements of MATLAB 5 files as Python values.

Format: "MAT-File Level 5 File Format", MathWorks. Plain Python on purpose: a damaged file ends in an exception, whereas
``scipy.io.loadmat`` (seen with 1.17) can end the process.
"""

import zlib
from collections.abc import Callable, Iterator
from struct import unpack_from
from typing import Any

import numpy as np

HEADER_SIZE = 128
MATRIX, COMPRESSED = 14, 15
_CELL_CLASS, _STRUCT_CLASS, _CHAR_CLASS, _NUMBER_CLASSES = 1, 2, 4, range(6, 16)
_ENCODINGS = {1: 'latin-1', 2: 'latin-1', 4: 'utf-16-le', 16: 'utf-8', 17: 'utf-16-le'}
_DTYPES = {1: 'i1', 2: 'u1', 3: '<i2', 4: '<u2', 5: '<i4', 6: '<u4', 7: '<f4', 9: '<f8', 12: '<i8', 13: '<u8'}


def iterate_variables(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and matrix element (for :func:`parse_matrix`) of each variable of a file.

    Raises:
        ValueError: If the file is of another version or byte order.
        EOFError: If it ends too early.
        zlib.error: If a compressed variable is damaged.
    """
    if content[HEADER_SIZE - 4 : HEADER_SIZE] != b'\x00\x01IM':
        raise ValueError('no MATLAB 5 file')
    position = HEADER_SIZE
    while position < len(content):
        kind, data, position = read_element(content, position)
        if kind == COMPRESSED:
            kind, data, _ = read_element(zlib.decompress(data), 0)
        if kind == MATRIX:
            yield _header(data)[2].decode(), data


def parse_matrix(content: bytes, parse_field: Callable[[bytes], Any] | None = None) -> Any:
    """The value of a matrix element.

    Args:
        content: The element without its tag.
        parse_field: What parses the fields and cells; this very function by default.

    Returns:
        A str; an array with the dimensions of the file; a list of dicts for a struct array and of values for a cell
        array, both in the order of the file; or None where it is empty.
    """
    if not content:
        return None
    parse_field = parse_field or parse_matrix
    matrix_class, dimensions, _, position = _header(content)
    if matrix_class == _STRUCT_CLASS:
        return _parse_structs(content, position, parse_field) or None
    if matrix_class == _CELL_CLASS:
        return [parse_field(data) for data in _elements(content, position)] or None
    if matrix_class != _CHAR_CLASS and matrix_class not in _NUMBER_CLASSES:
        raise ValueError(f'a variable is of class {matrix_class}')
    kind, data, _ = read_element(content, position)
    if not data:
        return None
    if matrix_class == _CHAR_CLASS:
        return data.decode(_ENCODINGS[kind])
    return np.frombuffer(data, _DTYPES[kind]).reshape(dimensions, order='F')


def read_element(content: bytes, position: int) -> tuple[int, bytes, int]:
    """Type, data and end of the element at a position.

    Up to 4 bytes of data are packed into the 8 of its tag; more are padded to 8, unless they are compressed.
    """
    kind, size = unpack_from('<II', content, position)
    if kind >> 16:
        return kind & 0xFFFF, content[position + 4 : position + 4 + (kind >> 16)], position + 8
    stop = position + 8 + size
    if stop > len(content):
        raise EOFError('an element is longer than the file')
    return kind, content[position + 8 : stop], stop if kind == COMPRESSED else stop + -size % 8


def field_names(length: bytes, names: bytes) -> list[str]:
    """Field names of a struct array, each in ``length`` bytes."""
    step = int.from_bytes(length, 'little')
    return [names[i : i + step].split(b'\0')[0].decode() for i in range(0, len(names), step)]


def _header(content: bytes) -> tuple[int, np.ndarray, bytes, int]:
    """Class, dimensions and name of a matrix element, and where its values begin."""
    _, flags, position = read_element(content, 0)
    _, dimensions, position = read_element(content, position)
    _, name, position = read_element(content, position)
    return flags[0], np.frombuffer(dimensions, '<i4'), name, position


def _elements(content: bytes, position: int) -> Iterator[bytes]:
    while position < len(content):
        _, data, position = read_element(content, position)
        yield data


def _parse_structs(content: bytes, position: int, parse_field: Callable[[bytes], Any]) -> list[dict[str, Any]]:
    _, length, position = read_element(content, position)
    _, names, position = read_element(content, position)
    keys = field_names(length, names)
    values = [parse_field(data) for data in _elements(content, position)]
    return [dict(zip(keys, values[i : i + len(keys)], strict=True)) for i in range(0, len(values), len(keys))]
