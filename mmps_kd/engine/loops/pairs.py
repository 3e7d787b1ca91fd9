"""Which query meets which gallery image, and in what order."""

import numpy as np

from mmps_kd.evaluation.functional import SearchProtocol
from mmps_kd.structures import expand_runs


def query_blocks(protocol: SearchProtocol, max_queries: int | None) -> list[np.ndarray]:
    """Split the queries into blocks, those of one image side by side so that it is rarely loaded twice.

    Args:
        protocol: Q queries.
        max_queries: Largest block; None for one block of all.

    Returns:
        Blocks of (n,) int64, positions in the protocol.
    """
    order = np.argsort(protocol.query_images, kind='stable')
    size = max_queries or len(order)
    return [order[first : first + size] for first in range(0, len(order), size)]


def queries_by_image(protocol: SearchProtocol, block: np.ndarray) -> dict[str, list[int]]:
    """The queries of a block that list an image, each once, by the image's name.

    Args:
        protocol: Queries and galleries.
        block: (n,) int64, positions in the protocol.
    """
    num_queries, counts = protocol.num_queries, np.diff(protocol.offsets)[block]
    images = protocol.entries[expand_runs(protocol.offsets[:-1][block], counts)].astype(np.int64)
    pairs = np.unique(images * num_queries + np.repeat(block, counts))
    images, first = np.unique(pairs // num_queries, return_index=True)
    queries = np.split(pairs % num_queries, first[1:])
    return {name: ids.tolist() for name, ids in zip(protocol.gallery_images[images].tolist(), queries, strict=True)}
