"""Results on disk, the plain npz that any codebase can write (keys: docs/evaluation.md), and checks of them."""

import os
from collections import Counter
from collections.abc import Iterable

import numpy as np

from mmps_kd.errors import UserError
from mmps_kd.fileio import DamagedNpzError, read_npz, write_npz
from mmps_kd.structures import (
    PairResults,
    QueryContext,
    SearchProtocol,
    SearchResults,
    name_in_folder,
    near_name,
    run_offsets,
)

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
    write_npz(path, **arrays)


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


def save_pairs(path: str | os.PathLike, results: PairResults) -> None:
    """Write results as npz, an array a field; ``PairResults(**numpy.load(path))`` reads them.

    Args:
        path: File to write; its folder must exist.
        results: What to write.
    """
    arrays = {key: value for key, value in vars(results).items() if value is not None}
    write_npz(path, **arrays)


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


def check_results(results: SearchResults, protocol: SearchProtocol, known_images: Iterable[str] | None = None) -> None:
    """Check that results are whole and belong to a protocol.

    Args:
        results: What a model gave.
        protocol: What it is to be scored on.
        known_images: Names that may occur; None for the protocol's own gallery and query images.

    Raises:
        UserError: Naming the first image, query or number that does not fit.
    """
    check_structure(results)
    check_against_protocol(results, protocol)
    if known_images is None:
        known_images = [*protocol.gallery_images.tolist(), *protocol.query_images.tolist()]
    unknown = _first_missing(results.image_names, known_images)
    if unknown is not None:
        near = near_name(unknown, known_images)
        raise UserError(
            f"results list image '{unknown}', which the test set does not have{near}: wrong dataset or split?"
        )


def check_score_thr(model_score_thr: float | None, score_thr: float, source: str = 'results') -> None:
    """Refuse a score threshold that the detections do not reach.

    Args:
        model_score_thr: Score below which the model dropped detections; None if it is not known.
        score_thr: What is asked for.
        source: What asks, for the message.

    Raises:
        UserError: If detections with scores in between are missing. Scores are not negative.
    """
    if model_score_thr is not None and max(score_thr, 0) < model_score_thr:
        raise UserError(
            f"{source}: the model's own score_thr of {model_score_thr:g} drops detections below it, so there is no "
            f'figure at {score_thr:g}: run the model with model.test_cfg.rcnn.score_thr={max(score_thr, 0):g}, or ask '
            f'for {model_score_thr:g} or more'
        )


def check_structure(results: SearchResults) -> None:
    """Check that the arrays agree with each other and every number is finite."""
    _check_sizes(results)
    names = results.image_names.tolist()
    if len(set(names)) < len(names):
        name, times = Counter(names).most_common(1)[0]
        raise UserError(f"results list image '{name}' {times} times: list each image once")
    for what, values in (('boxes', results.boxes), ('embeddings', results.embeddings)):
        row = _first_non_finite(values)
        if row is not None:
            image = np.searchsorted(run_offsets(results.num_dets), row, side='right') - 1
            raise UserError(f"{what} of image '{results.image_names[image]}' hold NaN or infinity (detection {row})")
    row = _first_non_finite(results.query_embeddings)
    if row is not None:
        raise UserError(f'query_embeddings of query {row} hold NaN or infinity')
    if results.query_context is not None and _first_non_finite(results.query_context.embeddings) is not None:
        row = _first_non_finite(results.query_context.embeddings)
        raise UserError(f'query_context_embeddings hold NaN or infinity (person {row})')


def check_against_protocol(results: SearchResults, protocol: SearchProtocol) -> None:
    """Check that every query and every gallery image of a protocol is there, and that a search makes sense."""
    if len(results.query_embeddings) != protocol.num_queries:
        raise UserError(f'results hold {len(results.query_embeddings)} queries, the protocol {protocol.num_queries}')
    missing = _first_missing(protocol.gallery_images, results.image_names.tolist())
    if missing is not None:
        near = near_name(missing, results.image_names.tolist())
        raise UserError(
            f"gallery image '{missing}' is not in the results{near}: "
            'an image with no detection is listed with num_dets 0'
        )
    check_truths(protocol)
    _check_query_order(results, protocol)


def check_truths(protocol: SearchProtocol) -> None:
    """Check that every query's person is somewhere in its gallery."""
    lost = np.flatnonzero(np.diff(protocol.truth_offsets) == 0)
    if len(lost):
        raise UserError(
            f"query {lost[0]} ('{protocol.query_images[lost[0]]}', person {protocol.query_pids[lost[0]]}) "
            'has no true box in its gallery'
        )


def check_pairs(results: PairResults) -> None:
    """Check that the arrays agree with each other and every number is finite."""
    pairs, detections = len(results.query_ids), len(results.boxes)
    if not pairs == len(results.image_names) == len(results.num_dets):
        raise UserError(
            f'{pairs} query_ids, {len(results.image_names)} image_names and {len(results.num_dets)} num_dets: '
            'give one of each a pair'
        )
    if not results.num_dets.sum() == detections == len(results.similarities):
        raise UserError(
            f'num_dets add up to {results.num_dets.sum()}, but there are {detections} boxes '
            f'and {len(results.similarities)} similarities'
        )
    for what, finite in (
        ('boxes', np.isfinite(results.boxes).all(axis=1)),
        ('similarities', np.isfinite(results.similarities)),
    ):
        if not finite.all():
            pair = np.searchsorted(run_offsets(results.num_dets), np.flatnonzero(~finite)[0], side='right') - 1
            name = results.image_names[pair]
            raise UserError(f"{what} of query {results.query_ids[pair]} in image '{name}' hold NaN or infinity")


def _check_sizes(results: SearchResults) -> None:
    detections, queries = len(results.boxes), len(results.query_embeddings)
    dim, query_dim = results.embeddings.shape[1], results.query_embeddings.shape[1]
    if len(results.image_names) != len(results.num_dets):
        raise UserError(f'{len(results.image_names)} img_names but {len(results.num_dets)} num_dets')
    if (results.num_dets < 0).any():
        raise UserError(f"num_dets of image '{results.image_names[results.num_dets.argmin()]}' is negative")
    if results.num_dets.sum() != detections:
        raise UserError(f'num_dets add up to {results.num_dets.sum()} but there are {detections} bboxes')
    if len(results.embeddings) != detections:
        raise UserError(f'{detections} bboxes but {len(results.embeddings)} embeddings')
    if dim != query_dim:
        raise UserError(f'embeddings have dimension {dim}, query_embeddings {query_dim}')
    for key, array in (('query_names', results.query_images), ('query_bboxes', results.query_boxes)):
        if array is not None and len(array) != queries:
            raise UserError(f'{key} has {len(array)} entries for {queries} query_embeddings')
    if results.query_context is not None:
        _check_context_sizes(results.query_context, queries, dim)


def _check_context_sizes(context: QueryContext, queries: int, dim: int) -> None:
    if len(context.num_people) != queries:
        raise UserError(f'query_context_num_people has {len(context.num_people)} entries for {queries} queries')
    if not context.num_people.sum() == len(context.boxes) == len(context.embeddings):
        raise UserError(
            f'query_context_num_people add up to {context.num_people.sum()}, but there are {len(context.boxes)} '
            f'query_context_bboxes and {len(context.embeddings)} query_context_embeddings'
        )
    if context.embeddings.shape[1] != dim:
        raise UserError(f'embeddings have dimension {dim}, query_context_embeddings {context.embeddings.shape[1]}')


def _check_query_order(results: SearchResults, protocol: SearchProtocol) -> None:
    """Compare the queries' images and boxes, where the results hold them; three PRW boxes are 1 px off in one file."""
    if results.query_images is not None:
        wrong = np.flatnonzero(results.query_images != protocol.query_images)
        if len(wrong):
            raise UserError(
                f"query {wrong[0]} is image '{protocol.query_images[wrong[0]]}' in the protocol "
                f"but '{results.query_images[wrong[0]]}' in query_names: put the queries in the protocol's order"
            )
    if results.query_boxes is not None:
        wrong = np.flatnonzero(np.abs(results.query_boxes - protocol.query_boxes).max(axis=1) > 2)
        if len(wrong):
            raise UserError(
                f'query {wrong[0]} is box {protocol.query_boxes[wrong[0]].tolist()} in the protocol '
                f'but {results.query_boxes[wrong[0]].tolist()} in query_bboxes'
            )


def _first_missing(names: np.ndarray, known: Iterable[str]) -> str | None:
    known = set(known)
    return next((name for name in names.tolist() if name not in known), None)


def _first_non_finite(values: np.ndarray) -> int | None:
    finite = np.isfinite(values)
    return None if finite.all() else int(np.flatnonzero(~finite.all(axis=1))[0])
