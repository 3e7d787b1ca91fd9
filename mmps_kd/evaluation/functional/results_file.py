"""Results on disk: the plain npz that any codebase can write (keys: docs/evaluation.md)."""

import os

import numpy as np

from mmps_kd.errors import UserError
from mmps_kd.image_names import name_in_folder
from mmps_kd.npz import DamagedNpzError, read_npz
from mmps_kd.structures import QueryContext, SearchResults

REQUIRED = {
    'img_names': ('image_names', 1),
    'num_dets': ('num_dets', 1),
    'bboxes': ('boxes', 2),
    'embeddings': ('embeddings', 2),
    'query_embeddings': ('query_embeddings', 2),
}
OPTIONAL = {
    'query_names': ('query_images', 1),
    'query_bboxes': ('query_boxes', 2),
    'score_thr': ('score_thr', 0),
}
CONTEXT = {
    'query_context_num_people': ('num_people', 1),
    'query_context_bboxes': ('boxes', 2),
    'query_context_embeddings': ('embeddings', 2),
}
BOX_COLUMNS = {'bboxes': 5, 'query_bboxes': 4, 'query_context_bboxes': 5}


def save_results(path: str | os.PathLike, results: SearchResults) -> None:
    """Write results as npz, embeddings in single precision.

    Args:
        path: File to write; its folder must exist.
        results: What to write.
    """
    arrays = {key: getattr(results, name) for key, (name, _) in {**REQUIRED, **OPTIONAL}.items()}
    if results.query_context is not None:
        arrays |= {key: getattr(results.query_context, name) for key, (name, _) in CONTEXT.items()}
    arrays = {key: _to_file(key, np.asarray(array)) for key, array in arrays.items() if array is not None}
    with open(path, 'wb') as file:
        np.savez(file, **arrays)


def load_results(path: str | os.PathLike) -> SearchResults:
    """Read results from npz; their content is checked by :func:`check_results`.

    Raises:
        UserError: If the file is absent or damaged, a key is missing, or an array has the wrong kind or shape.
    """
    try:
        arrays = read_npz(path, {**REQUIRED, **OPTIONAL, **CONTEXT})
    except FileNotFoundError:
        raise UserError(f'results file {path} does not exist') from None
    except DamagedNpzError:
        raise UserError(f'results file {path} is damaged or no npz of plain arrays: write it again') from None
    context = any(key in arrays for key in CONTEXT)
    missing = [key for key in {**REQUIRED, **(CONTEXT if context else {})} if key not in arrays]
    if missing:
        raise UserError(f"results file {path} lacks the array '{missing[0]}'")
    for key, (_, ndim) in {**REQUIRED, **OPTIONAL, **CONTEXT}.items():
        if key in arrays:
            arrays[key] = _from_file(path, key, arrays[key], ndim)
    return SearchResults(
        **{name: arrays.get(key) for key, (name, _) in {**REQUIRED, **OPTIONAL}.items()},
        query_context=QueryContext(**{name: arrays[key] for key, (name, _) in CONTEXT.items()}) if context else None,
    )


def _to_file(key: str, array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if key.endswith('embeddings') else array


def _from_file(path: str | os.PathLike, key: str, array: np.ndarray, ndim: int) -> np.ndarray | float:
    """Check kind and shape, and bring the array to its type in memory."""
    kinds = 'U' if key.endswith('names') else 'iu' if key.endswith(('num_dets', 'num_people')) else 'fiu'
    if array.ndim != ndim or array.dtype.kind not in kinds:
        expected = {'U': 'text', 'iu': 'integers', 'fiu': 'numbers'}[kinds]
        raise UserError(
            f"'{key}' in {path} must be a {ndim}-d array of {expected}, not {array.ndim}-d of {array.dtype}"
        )
    if key in BOX_COLUMNS and array.shape[1] != BOX_COLUMNS[key]:
        raise UserError(f"'{key}' in {path} must have {BOX_COLUMNS[key]} columns, not {array.shape[1]}")
    if kinds == 'U':
        return np.array([name_in_folder(name) if './' in name or '//' in name else name for name in array.tolist()])
    if kinds == 'iu':
        return array.astype(np.int64)
    if key.endswith('embeddings'):
        return array.astype(np.float32)
    if key == 'score_thr':
        return array.item()
    return array.astype(np.float64) if array.dtype.kind in 'iu' else array
