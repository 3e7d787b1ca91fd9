"""Reading MATLAB files with errors that say what is wrong with which file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from mmps_kd.errors import UserError


def require_file(path: Path) -> None:
    """Raise :class:`UserError` if a file of the official download is missing."""
    if not path.is_file():
        raise UserError(f'{path}: no such file; check data_root, the layout is in docs/datasets.md')


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while an official file is read into one line that names the file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # scipy raises anything from struct.error to zlib.error on a damaged file
        reason = f'{type(error).__name__}: {error}'.splitlines()[0]
        raise UserError(f'{path} is truncated, damaged or not the official file ({reason}); get it again') from error


def load_mat(path: Path, *keys: str) -> np.ndarray:
    """Load a variable of a MATLAB file.

    Args:
        path: The file.
        *keys: Names that the variable may have; the first that is there is taken.

    Raises:
        UserError: If the file is missing or damaged, or has none of the names.
    """
    require_file(path)
    with reading(path):
        content = loadmat(path)
    for key in keys:
        if key in content:
            return content[key]
    found = ', '.join(k for k in content if not k.startswith('__'))
    raise UserError(f'{path} has no variable {" or ".join(keys)}, only: {found or "none"}; get the official file')
