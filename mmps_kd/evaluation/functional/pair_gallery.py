"""Pairs of a query and a gallery image, arranged as the ordinary search has its gallery: each an image of its own."""

from dataclasses import replace

import numpy as np

from mmps_kd.errors import UserError
from mmps_kd.structures import PairResults, SearchProtocol, expand_runs, run_offsets

from .checks import check_score_thr
from .gallery import Gallery


def listed_pairs(protocol: SearchProtocol) -> np.ndarray:
    """Keys ``query * G + image`` of the pairs that a protocol lists, ascending, each once; (P,) int64."""
    queries = np.repeat(np.arange(protocol.num_queries), np.diff(protocol.offsets))
    return np.unique(queries * len(protocol.gallery_images) + protocol.entries)


def build_pair_gallery(results: PairResults, protocol: SearchProtocol, pairs: np.ndarray, score_thr: float) -> Gallery:
    """Arrange the detections with score >= ``score_thr`` by pair.

    Args:
        results: Results whose arrays agree with each other.
        protocol: Names queries and gallery images.
        pairs: (P,) int64, what to arrange them by (see :func:`listed_pairs`).
        score_thr: In the units of the results' scores.

    Returns:
        A gallery of P images, whose embeddings (N, 1) are the similarities.

    Raises:
        UserError: If a pair is missing or there twice, or the model dropped detections above ``score_thr``.
    """
    check_score_thr(results.score_thr, score_thr)
    where = _find_pairs(results, protocol, pairs)
    counts = results.num_dets[where]
    rows, images = expand_runs(run_offsets(results.num_dets)[where], counts), np.repeat(np.arange(len(where)), counts)
    kept = results.boxes[rows, 4] >= score_thr
    rows, images = rows[kept], images[kept]
    counts = np.bincount(images, minlength=len(where))
    return Gallery(run_offsets(counts), counts, images, results.boxes[rows], results.similarities[rows, None])


def _find_pairs(results: PairResults, protocol: SearchProtocol, pairs: np.ndarray) -> np.ndarray:
    """Where in the results each of the pairs stands; (P,) int64."""
    index = {name: image for image, name in enumerate(protocol.gallery_images.tolist())}
    images = np.array([index.get(name, -1) for name in results.image_names.tolist()], dtype=np.int64)
    known = np.flatnonzero((images >= 0) & (results.query_ids >= 0))
    keys = results.query_ids[known] * len(index) + images[known]
    order = np.argsort(keys, kind='stable')
    keys, known = keys[order], known[order]
    twice = np.flatnonzero(keys[1:] == keys[:-1])
    if len(twice):
        raise UserError(f'results hold {_pair_name(protocol, keys[twice[0]])} twice: list each pair once')
    missing = pairs[~np.isin(pairs, keys)]
    if len(missing):
        raise UserError(
            f'results lack {_pair_name(protocol, missing[0])}, {len(missing)} of {len(pairs)} pairs in all: '
            'a pair without detections is listed with num_dets 0'
        )
    return known[np.searchsorted(keys, pairs)]


def _pair_name(protocol: SearchProtocol, key: int) -> str:
    query, image = divmod(int(key), len(protocol.gallery_images))
    return f"the pair of query {query} ('{protocol.query_images[query]}') and image '{protocol.gallery_images[image]}'"


def pairs_as_images(protocol: SearchProtocol, pairs: np.ndarray) -> SearchProtocol:
    """The protocol with every pair as a gallery image of its own, so that no two queries share one.

    Args:
        protocol: Queries and galleries.
        pairs: (P,) int64, its pairs (see :func:`listed_pairs`).
    """
    num_images = len(protocol.gallery_images)

    def position(offsets: np.ndarray, images: np.ndarray) -> np.ndarray:
        queries = np.repeat(np.arange(protocol.num_queries), np.diff(offsets))
        return np.searchsorted(pairs, queries * num_images + images)

    return replace(
        protocol,
        gallery_images=protocol.gallery_images[pairs % num_images],
        entries=position(protocol.offsets, protocol.entries),
        truth_images=position(protocol.truth_offsets, protocol.truth_images),
    )
