"""Writer of MATLAB 5 files for the large nested structs of person-search annotations.

``scipy.io.savemat`` needs the whole nested object array in memory and about a minute per million gallery entries; here
an entry is a piece of bytes that may be used many times. Numbers are stored as MATLAB stores them: of class double, in
the smallest integer type that holds them. The files carry no date, so equal content gives equal bytes.
"""

import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

# Codes of data elements and of array classes in the MAT-file format, version 5.
_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED, _UTF8 = 1, 5, 6, 14, 15, 16
_STORED_AS = {'<u1': 2, '<u2': 4, '<i2': 3, '<i4': 5, '<f8': 9}
_CELL, _STRUCT, _CHAR, _DOUBLE_CLASS = 1, 2, 4, 6
_NAME_BYTES = 32  # length of one field name, with its closing zero


def char(text: str) -> bytes:
    """A (1, n) char array."""
    return b''.join(_matrix(_CHAR, (1, len(text)), [_element(_UTF8, text.encode())]))


def numbers(values: np.ndarray, name: str = '') -> bytes:
    """A two-dimensional array of class double."""
    whole = values.size and (values == np.round(values)).all()
    kinds = ('<u1', '<u2', '<i2', '<i4') if whole else ()
    fits = [k for k in kinds if np.iinfo(k).min <= values.min() and values.max() <= np.iinfo(k).max]
    kind = fits[0] if fits else '<f8'
    data = _element(_STORED_AS[kind], values.astype(kind).tobytes(order='F'))
    return b''.join(_matrix(_DOUBLE_CLASS, values.shape, [data], name))


def cells(items: Sequence[bytes], shape: tuple[int, int], name: str = '') -> list[bytes]:
    """A cell array of finished items, in column-major order."""
    return _matrix(_CELL, shape, items, name)


def structs(fields: Sequence[str], values: Sequence[bytes], shape: tuple[int, int], name: str = '') -> list[bytes]:
    """A struct array; ``values`` are the fields of the first struct, then those of the second, and so on.

    Pieces may be joined or split at will, since only their concatenation counts.
    """
    names = b''.join(field.encode().ljust(_NAME_BYTES, b'\0') for field in fields)
    head = [_element(_INT32, struct.pack('<i', _NAME_BYTES)), _element(_INT8, names)]
    return _matrix(_STRUCT, shape, [*head, *values], name)


def save(path: Path, variable: Iterable[bytes]) -> None:
    """Write a named variable, compressed."""
    packer = zlib.compressobj(1)
    packed = [packer.compress(piece) for piece in variable] + [packer.flush()]
    with path.open('wb') as file:
        file.write(b'MATLAB 5.0 MAT-file, written by mmps_kd'.ljust(116) + bytes(8) + struct.pack('<H', 0x0100) + b'IM')
        file.write(struct.pack('<II', _COMPRESSED, sum(map(len, packed))))
        file.writelines(packed)


def _matrix(kind: int, shape: Sequence[int], body: Sequence[bytes], name: str = '') -> list[bytes]:
    head = _element(_UINT32, struct.pack('<II', kind, 0)) + _element(_INT32, struct.pack('<2i', *shape))
    head += _element(_INT8, name.encode())
    size = len(head) + sum(map(len, body))
    return [struct.pack('<II', _MATRIX, size) + head, *body]


def _element(kind: int, data: bytes) -> bytes:
    if 0 < len(data) <= 4:  # the short form: code, length and data in eight bytes
        return struct.pack('<HH', kind, len(data)) + data.ljust(4, b'\0')
    return struct.pack('<II', kind, len(data)) + data + bytes(-len(data) % 8)
