"""k-reciprocal re-ranking (Zhong et al., CVPR 2017): who shares the query's neighbours comes first."""

import numpy as np

NUM_RERANKED = 1000
"""Candidates of a query that are re-ranked by default."""


def k_reciprocal_distances(
    query: np.ndarray, candidates: np.ndarray, k1: int = 20, k2: int = 6, original_weight: float = 0.3
) -> np.ndarray:
    """Distances of a query to its candidates by k-reciprocal encoding, with the paper's settings as defaults.

    Query and candidates are one set; each is its own first neighbour, of equally distant ones the first given is the
    nearer one. Neither other queries nor the rest of a gallery take part.

    1. R(p, k) are the k-reciprocal neighbours of p: those among the k + 1 nearest of p that have p among theirs.
    2. R*(p) is R(p, k1), extended by R(q, k1 / 2) of each q in R(p, k1) that has more than 2/3 of its R(q, k1 / 2) in
       R(p, k1).
    3. p is encoded as V_p: exp(-d(p, q)) for each q in R*(p), otherwise 0, divided by its sum. d is the squared
       Euclidean distance divided by the largest one of p.
    4. Local query expansion: V_p becomes the mean of V over the k2 nearest of p.
    5. The distance of p and q is ``1 - sum(min(V_p, V_q)) / sum(max(V_p, V_q))``, the Jaccard distance, mixed with d.

    Where the paper leaves a choice, and where its text differs, this is the authors' published code, as in the figures
    of others: d is divided by its largest value and V by its sum, and "more than 2/3" is "at least 2/3" in the text.

    Args:
        query: (D,) float.
        candidates: (N, D) float, in the order of their first ranking.
        k1: Neighbours that are compared.
        k2: Neighbours of the local query expansion.
        original_weight: Share of d in the distance, lambda in the paper.

    Returns:
        (N,) float64 in 0..1.
    """
    distances = _scaled_distances(np.vstack([query, candidates]).astype(np.float64))
    ordered = distances.copy()
    np.fill_diagonal(ordered, -1)
    neighbours = ordered.argsort(axis=1, kind='stable')

    def reciprocal(k: int) -> np.ndarray:
        nearest = np.zeros(distances.shape, dtype=bool)
        np.put_along_axis(nearest, neighbours[:, : k + 1], True, axis=1)
        return nearest & nearest.T

    near, nearer = reciprocal(k1), reciprocal(round(k1 / 2))
    # Counts by matrix products: BLAS has them for floating-point numbers alone.
    shared = near.astype(np.float32) @ nearer.astype(np.float32)  # nearer is symmetric
    joins = near & (3 * shared > 2 * nearer.sum(axis=1))
    extended = near | (joins.astype(np.float32) @ nearer.astype(np.float32) > 0)
    encoded = np.where(extended, np.exp(-distances), 0)
    encoded /= encoded.sum(axis=1, keepdims=True)
    encoded = encoded[neighbours[:, :k2]].mean(axis=1)
    shared_mass = np.minimum(encoded[0], encoded[1:]).sum(axis=1)
    jaccard = 1 - shared_mass / (2 - shared_mass)  # each encoding sums to 1
    return (1 - original_weight) * jaccard + original_weight * distances[0, 1:]


def _scaled_distances(vectors: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances of vectors (n, D), each row divided by its largest value."""
    # Equal vectors have equal distances to the last bit, which a product of all rows does not promise.
    unique, which = np.unique(vectors, axis=0, return_inverse=True)
    products = unique @ unique.T
    squares = products.diagonal()
    distances = np.maximum(squares[:, None] + squares - 2 * products, 0)
    distances /= np.maximum(distances.max(axis=1, keepdims=True), np.finfo(np.float64).tiny)  # all may be equal
    which = which.reshape(-1)
    return distances[which[:, None], which]
