"""Similarities between queries and the detections of their galleries, a chunk of queries at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mmps_kd.structures import SearchProtocol, expand_runs, run_offsets

from .gallery import Gallery

DENSE_FRACTION = 0.1
"""From this share of (query, image) pairs on, one full matrix product is faster than picking the listed pairs."""


@dataclass(frozen=True, eq=False)
class SimilarityChunk:
    """Similarities of consecutive queries, one row a query; within a row, detections stand in the gallery's order.

    Attributes:
        first_query: Query of row 0.
        values: (R, W) float32; -inf where a detection is not in the query's gallery, or a row has fewer than W.
        pair_keys: (K,) int64, ``row * G + image`` of the pairs that have columns, ascending; None if every row has
            one column a detection.
        pair_columns: (K,) int64, first column of each pair; None likewise.
    """

    first_query: int
    values: np.ndarray
    pair_keys: np.ndarray | None = None
    pair_columns: np.ndarray | None = None

    def columns(self, rows: np.ndarray, detections: np.ndarray, gallery: Gallery) -> np.ndarray:
        """(C,) int64, where in its row the similarity of each detection stands."""
        if self.pair_keys is None:
            return detections
        images = gallery.images[detections]
        pairs = np.searchsorted(self.pair_keys, rows * gallery.num_images + images)
        return self.pair_columns[pairs] + detections - gallery.starts[images]

    def detections(self, row: int, gallery: Gallery) -> np.ndarray:
        """(W',) int64, detections that the first W' columns of a row stand for."""
        if self.pair_keys is None:
            return np.arange(len(gallery.boxes))
        first, last = np.searchsorted(self.pair_keys, [row * gallery.num_images, (row + 1) * gallery.num_images])
        images = self.pair_keys[first:last] % gallery.num_images
        return expand_runs(gallery.starts[images], gallery.counts[images])


def similarity_chunks(
    query_embeddings: np.ndarray, gallery: Gallery, protocol: SearchProtocol, chunk_size: int, dense: bool = False
) -> Iterator[SimilarityChunk]:
    """Dot products of each query with the detections of the images that the protocol lists for it.

    An image listed twice for a query is there once. Equal embeddings have equal similarities, to the last bit,
    wherever they stand: a matrix product alone does not promise that.

    Args:
        query_embeddings: (Q, D) float32.
        gallery: Detections.
        protocol: Says which gallery images belong to which query.
        chunk_size: Similarities held at a time; at least one query's.
        dense: Keep one column a detection even where most are not in a query's gallery.
    """
    dense = dense or len(protocol.entries) > DENSE_FRACTION * protocol.num_queries * gallery.num_images
    width = len(gallery.boxes) if dense else _mean_gallery(gallery, protocol)
    step = max(1, chunk_size // max(1, width))
    product = _dense_chunk if dense else _sparse_chunk
    twins = _first_twins(gallery.embeddings)
    for first in range(0, protocol.num_queries, step):
        yield product(query_embeddings[first : first + step], gallery, protocol, first, twins)


def _mean_gallery(gallery: Gallery, protocol: SearchProtocol) -> int:
    return int(gallery.counts[protocol.entries].sum() // protocol.num_queries)


def _first_twins(embeddings: np.ndarray) -> np.ndarray:
    """(N,) int64: the first row equal to each row, itself where there is none before it."""
    twins = np.arange(len(embeddings))
    # Some columns are enough to find rows that may be equal.
    columns = embeddings[:, :: max(1, embeddings.shape[1] // 16)].copy().view(np.uint32)
    weights = np.random.default_rng(0).integers(1, 2**32, columns.shape[1], dtype=np.uint32)
    digests = columns @ weights
    _, index, counts = np.unique(digests, return_inverse=True, return_counts=True)
    suspects = np.flatnonzero(counts[index] > 1)
    if len(suspects):
        _, first, inverse = np.unique(embeddings[suspects], axis=0, return_index=True, return_inverse=True)
        twins[suspects] = suspects[first][inverse.ravel()]
    return twins


def _dense_chunk(
    queries: np.ndarray, gallery: Gallery, protocol: SearchProtocol, first: int, twins: np.ndarray
) -> SimilarityChunk:
    """One matrix product over the whole gallery; unlisted images are struck out."""
    values = queries @ gallery.embeddings.T
    repeated = np.flatnonzero(twins != np.arange(len(twins)))
    values[:, repeated] = values[:, twins[repeated]]
    for row, query in zip(values, range(first, first + len(values)), strict=True):
        unlisted = np.ones(gallery.num_images, dtype=bool)
        unlisted[protocol.entries[protocol.offsets[query] : protocol.offsets[query + 1]]] = False
        images = np.flatnonzero(unlisted)
        row[expand_runs(gallery.starts[images], gallery.counts[images])] = -np.inf
    return SimilarityChunk(first, values)


def _sparse_chunk(
    queries: np.ndarray, gallery: Gallery, protocol: SearchProtocol, first: int, twins: np.ndarray
) -> SimilarityChunk:
    """Small products, gallery image by gallery image, each with the queries that list it."""
    offsets = protocol.offsets[first : first + len(queries) + 1]
    rows = np.repeat(np.arange(len(queries)), np.diff(offsets))
    keys = np.unique(rows * gallery.num_images + protocol.entries[offsets[0] : offsets[-1]])
    rows = keys // gallery.num_images
    images = (keys - rows * gallery.num_images).astype(np.int32)
    counts = gallery.counts[images]
    starts = run_offsets(counts)
    row_starts = starts[np.searchsorted(rows, np.arange(len(queries)))]
    columns = starts[:-1] - row_starts[rows]
    values = np.full((len(queries), (columns + counts).max(initial=1)), -np.inf, dtype=np.float32)
    # NumPy sorts 16-bit integers stably by counting, several times as fast as wider ones.
    order = np.argsort(images.astype(np.uint16) if gallery.num_images < 2**16 else images, kind='stable')
    rows, images, first_columns = rows[order], images[order], columns[order]
    products = _products_by_image(queries, gallery, rows, images)
    _equalise_twins(products, gallery, rows, images, twins)
    values.ravel()[expand_runs(rows * values.shape[1] + first_columns, gallery.counts[images])] = products
    return SimilarityChunk(first, values, keys, columns)


def _products_by_image(queries: np.ndarray, gallery: Gallery, rows: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Similarities of the pairs (row, every detection of the image), pairs ordered by image, as one flat array."""
    pairs = np.searchsorted(images, np.arange(gallery.num_images + 1))
    ends = np.cumsum(np.diff(pairs) * gallery.counts)
    products = np.empty(ends[-1], dtype=np.float32)
    # Plain ints: indexing with NumPy's costs more than the small products themselves.
    pairs, dets, ends = pairs.tolist(), gallery.starts.tolist(), [0, *ends.tolist()]
    for image in np.flatnonzero(np.diff(ends)).tolist():
        listed = queries.take(rows[pairs[image] : pairs[image + 1]], axis=0)
        block = products[ends[image] : ends[image + 1]].reshape(len(listed), -1)
        np.dot(listed, gallery.embeddings[dets[image] : dets[image + 1]].T, out=block)
    return products


def _equalise_twins(
    products: np.ndarray, gallery: Gallery, rows: np.ndarray, images: np.ndarray, twins: np.ndarray
) -> None:
    """Give detections with equal embeddings the same similarity to the same query, in place."""
    shared = np.bincount(twins, minlength=len(twins))[twins] > 1
    if not shared.any():
        return
    counts = gallery.counts[images]
    detections = expand_runs(gallery.starts[images], counts)
    places = np.flatnonzero(shared[detections])
    keys = np.repeat(rows, counts)[places] * len(twins) + twins[detections[places]]
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    products[places] = products[places[first]][inverse]
