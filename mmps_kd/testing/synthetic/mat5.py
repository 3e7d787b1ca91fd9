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

_INT8, _UINT8, _INT16, _UINT16, _INT32, _UINT32, _DOUBLE, _MATRIX, _COMPRESSED, _UTF8 = 1, 2, 3, 4, 5, 6, 9, 14, 15, 16
_CELL, _STRUCT, _CHAR, _DOUBLE_CLASS = 1, 2, 4, 6
_STORED_AS = {'u1': _UINT8, 'u2': _UINT16, 'i2': _INT16, 'i4': _INT32, 'f8': _DOUBLE}
_NAME_BYTES = 32  # room for one field name, its closing zero included


def char(text: str) -> bytes:
    """A (1, n) char array."""
    return b''.join(_matrix(_CHAR, (1, len(text)), [_element(_UTF8, text.encode())]))


def numbers(values: np.ndarray, name: str = '') -> bytes:
    """A two-dimensional array of class double."""
    stored = _smallest(values)
    data = _element(_STORED_AS[stored.dtype.str[1:]], stored.tobytes(order='F'))
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


def save(path: Path, *variables: Iterable[bytes]) -> None:
    """Write named variables, each compressed."""
    with path.open('wb') as file:
        file.write(b'MATLAB 5.0 MAT-file, written by mmps_kd'.ljust(116) + bytes(8) + struct.pack('<H', 0x0100) + b'IM')
        for variable in variables:
            packer = zlib.compressobj(1)
            packed = [packer.compress(piece) for piece in variable] + [packer.flush()]
            file.write(struct.pack('<II', _COMPRESSED, sum(map(len, packed))))
            file.writelines(packed)


def _smallest(values: np.ndarray) -> np.ndarray:
    if values.size and (values == np.round(values)).all():
        for kind in ('<u1', '<u2', '<i2', '<i4'):
            if np.iinfo(kind).min <= values.min() and values.max() <= np.iinfo(kind).max:
                return values.astype(kind)
    return values.astype('<f8')


def _matrix(kind: int, shape: Sequence[int], body: Sequence[bytes], name: str = '') -> list[bytes]:
    head = _element(_UINT32, struct.pack('<II', kind, 0)) + _element(_INT32, struct.pack('<2i', *shape))
    head += _element(_INT8, name.encode())
    size = len(head) + sum(map(len, body))
    return [struct.pack('<II', _MATRIX, size) + head, *body]


def _element(kind: int, data: bytes) -> bytes:
    if 0 < len(data) <= 4:
        return struct.pack('<HH', kind, len(data)) + data.ljust(4, b'\0')
    return struct.pack('<II', kind, len(data)) + data + bytes(-len(data) % 8)
