"""Protocols whose gallery is the whole test set."""

import numpy as np

from mmps_kd.datasets.annotations import Annotations
from mmps_kd.datasets.annotations.structures import offsets_of
from mmps_kd.errors import UserError
from mmps_kd.structures import SearchProtocol

from .checks import require_truth


def full_gallery_protocol(
    people: Annotations,
    query_images: np.ndarray,
    query_boxes: np.ndarray,
    query_pids: np.ndarray,
    source: str,
    cameras: np.ndarray | None = None,
    on_absent_query: str = 'error',
) -> SearchProtocol:
    """Search each query in all images but its own.

    The true box in a gallery image is the first one there of the query's identity: the field counts one an image.

    Args:
        people: Everybody in the test images, N of them.
        query_images: (Q,) str.
        query_boxes: (Q, 4) float64, x1, y1, x2, y2.
        query_pids: (Q,) int64.
        source: Where the queries come from, for messages.
        cameras: (N,) int64, camera of each image: images of the query's own camera are left out. None: kept.
        on_absent_query: 'error', or 'skip' to leave queries out whose person is nowhere in their gallery.

    Raises:
        UserError: If a query's image is not among the test images, or its person is nowhere in its gallery, with
            'skip' if that is so for all queries.
    """
    if on_absent_query not in ('error', 'skip'):
        raise UserError(f"on_absent_query must be 'error' or 'skip', got {on_absent_query!r}")
    people = people.without_empty_boxes()
    own_images = _own_images(people.image_names, query_images, source)
    galleries, truths = [], []
    for own, pid in zip(own_images, query_pids, strict=True):
        in_gallery = np.ones(len(people.image_names), dtype=bool) if cameras is None else cameras != cameras[own]
        in_gallery[own] = False
        galleries.append(np.flatnonzero(in_gallery).astype(np.int32))
        truths.append(_true_boxes(people, pid, in_gallery))
    if on_absent_query == 'skip':
        found = np.flatnonzero([len(boxes) for boxes in truths])
        if not len(found):
            raise UserError(f'{source}: no query is left: the people of all {len(truths)} are absent from the gallery')
        query_images, query_boxes, query_pids = query_images[found], query_boxes[found], query_pids[found]
        galleries, truths = [galleries[query] for query in found], [truths[query] for query in found]
    true_boxes = np.concatenate(truths)
    protocol = SearchProtocol(
        query_images=query_images,
        query_boxes=query_boxes,
        query_pids=query_pids,
        gallery_images=people.image_names,
        offsets=offsets_of(np.array([len(gallery) for gallery in galleries])),
        entries=np.concatenate(galleries),
        truth_offsets=offsets_of(np.array([len(boxes) for boxes in truths])),
        truth_images=people.image_of_box[true_boxes].astype(np.int32),
        truth_boxes=people.boxes[true_boxes],
    )
    skip = "on_absent_query='skip' of the dataset, --skip-absent-queries of the tools"
    require_truth(protocol, source, f'leave them out of the query list, or with {skip}')
    return protocol


def _own_images(image_names: np.ndarray, query_images: np.ndarray, source: str) -> list[int]:
    index = {name: i for i, name in enumerate(image_names.tolist())}
    unknown = [name for name in query_images.tolist() if name not in index]
    if unknown:
        raise UserError(f'{source}: query image {unknown[0]} is not among the test images; correct the query list')
    return [index[name] for name in query_images.tolist()]


def _true_boxes(people: Annotations, pid: int, in_gallery: np.ndarray) -> np.ndarray:
    """Indices of the first box of an identity in each gallery image; nobody is the unlabelled people's own."""
    boxes = np.flatnonzero((people.pids == pid) & (people.pids >= 0))
    images, first = np.unique(people.image_of_box[boxes], return_index=True)
    return boxes[first][in_gallery[images]]
