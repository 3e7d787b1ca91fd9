"""Reading MATLAB files with errors that say what is wrong with which file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mmps_kd.errors import UserError

from .mat_elements import iterate_variables, parse_matrix
from .soundness import NOT_IN_NAMES


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
    except Exception as error:  # anything from struct.error to zlib.error, by where the damage lies
        reason = f'{type(error).__name__}: {error}'.splitlines()[0]
        raise UserError(f'{path} is truncated, damaged or not the official file ({reason}); get it again') from error


def load_mat(path: Path, *keys: str) -> Any:
    """Load a variable of a MATLAB file.

    Args:
        path: The file.
        *keys: Names that the variable may have; the first that is there is taken.

    Returns:
        Its value, as :func:`~mmps_kd.datasets.annotations.mat_elements.parse_matrix` gives it.

    Raises:
        UserError: If the file is missing or damaged, or has none of the names.
    """
    require_file(path)
    with reading(path):
        variables = dict(iterate_variables(path.read_bytes()))
        for key in keys:
            if key in variables:
                return parse_matrix(variables[key])
    found = ', '.join(variables) or 'none'
    raise UserError(f'{path} has no variable {" or ".join(keys)}, only: {found}; get the official file')


def texts(values: list) -> np.ndarray:
    """Names (N,) str.

    Raises:
        ValueError: If one of them is no text, or holds control characters.
    """
    if not all(isinstance(value, str) and not NOT_IN_NAMES.search(value) for value in values):
        raise ValueError('a name is no text')
    return np.array(values, dtype=np.str_)
