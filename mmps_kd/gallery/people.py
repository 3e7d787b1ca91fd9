"""Detected people and their likeness to a query."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmps_kd.evaluation.functional import most_similar


@dataclass(frozen=True, eq=False)
class People:
    """The people that a model found in one or several scenes.

    Attributes:
        boxes: (N, 4) float32, x1, y1, x2, y2 in original pixels.
        scores: (N,) float32 in 0..1.
        embeddings: (N, D) float32 of unit length.
    """

    boxes: np.ndarray
    scores: np.ndarray
    embeddings: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, which: np.ndarray | slice) -> 'People':
        """Those that an index array, a mask or a slice picks."""
        return People(self.boxes[which], self.scores[which], self.embeddings[which])

    @classmethod
    def join(cls, parts: Sequence['People']) -> 'People':
        """People of several scenes, at least one, one after another."""
        return cls(*(np.concatenate([getattr(p, field) for p in parts]) for field in cls.__dataclass_fields__))


def rank_people(embeddings: np.ndarray, query: np.ndarray, topk: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the embeddings most similar to a query.

    Args:
        embeddings: (N, D).
        query: (D,).
        topk: How many are wanted, fewer if there are fewer.

    Returns:
        (K,) int64 indices, most similar first, of equally similar ones the one listed first; (K,) similarities, the
        dot products.
    """
    similarities = np.einsum('nd,d->n', embeddings, query)
    order = most_similar(similarities, topk)
    return order, similarities[order]
