"""CUHK-SYSU: galleries of a fixed size, listed for each query in the TestG files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from mmps_kd.datasets.annotations import ListedGalleries
from mmps_kd.datasets.annotations.cuhk_sysu import gallery_sizes_in, has_test_people, read_pool, read_protocol
from mmps_kd.datasets.annotations.cuhk_sysu_splits import read_test_split
from mmps_kd.datasets.annotations.structures import offsets_of
from mmps_kd.errors import UserError
from mmps_kd.structures import EvaluationSet, SearchProtocol

from .checks import require_truth

GallerySize = int | Literal['all']


def load_cuhk_sysu_evaluation(data_root: str | Path, gallery_sizes: Sequence[GallerySize] = (100,)) -> EvaluationSet:
    """What CUHK-SYSU is evaluated on.

    ``annotation/test/train_test/TestG{size}.mat`` alone is enough for a size; the people of the test images, for
    the detection figures, are added where Images.mat and pool.mat are there too.

    Args:
        data_root: Folder that holds ``annotation``.
        gallery_sizes: Sizes of the official protocols (50, 100, 500, 1000, 2000, 4000), or 'all' for the full
            set: what the first other size (or the smallest there is) lists for the query, then all other images of
            pool.mat but the query's own.

    Returns:
        Protocols ``gallery_{size}`` in the order asked for; identities are numbered by query.

    Raises:
        UserError: If a file is missing or damaged, the files disagree on the queries, or a query's person is
            nowhere in its gallery.
    """
    root = Path(data_root)
    protocols = load_cuhk_sysu_protocols(root, gallery_sizes)
    people = read_test_split(root, main_size(root, gallery_sizes)) if has_test_people(root) else None
    return EvaluationSet(protocols, people and people.ground_truth())


def load_cuhk_sysu_protocols(root: Path, gallery_sizes: Sequence[GallerySize]) -> dict[str, SearchProtocol]:
    """The protocols of :func:`load_cuhk_sysu_evaluation`, by name."""
    main = read_protocol(root, main_size(root, gallery_sizes))
    return {f'gallery_{size}': _load(root, size, main) for size in gallery_sizes}


def main_size(root: Path, gallery_sizes: Sequence[GallerySize]) -> int:
    """The first size with a TestG file of its own, or the smallest that there is."""
    candidates = [size for size in gallery_sizes if size != 'all'] or gallery_sizes_in(root)
    if not candidates:
        raise UserError(f'{root}: no annotation/test/train_test/TestG*.mat; data_root must hold the official files')
    return candidates[0]


def _load(root: Path, size: GallerySize, main: ListedGalleries) -> SearchProtocol:
    if size == 'all':
        return _protocol(_whole_set(main, read_pool(root)), 'the full set')
    listed = read_protocol(root, size)
    same = np.array_equal(listed.query_images, main.query_images)
    if not same or not np.array_equal(listed.query_boxes, main.query_boxes):
        raise UserError(
            f'{root}: TestG{size}.mat has other queries than the other gallery sizes; get the official files'
        )
    return _protocol(listed, f'TestG{size}.mat')


def _protocol(listed: ListedGalleries, source: str) -> SearchProtocol:
    truths_before = np.concatenate([[0], np.cumsum(listed.is_true)])
    protocol = SearchProtocol(
        query_images=listed.query_images,
        query_boxes=listed.query_boxes,
        query_pids=np.arange(len(listed.query_images)),
        gallery_images=listed.image_names,
        offsets=listed.offsets,
        entries=listed.entries,
        truth_offsets=truths_before[listed.offsets],
        truth_images=listed.entries[listed.is_true],
        truth_boxes=listed.boxes,
    )
    require_truth(protocol, source)
    return protocol


def _whole_set(listed: ListedGalleries, pool: np.ndarray) -> ListedGalleries:
    """Add the images of the pool that a query's gallery does not list, but for the query's own."""
    names = np.unique(np.concatenate([pool, listed.image_names]))
    entry_of = np.searchsorted(names, listed.image_names).astype(np.int32)[listed.entries]
    own = np.searchsorted(names, listed.query_images).clip(max=len(names) - 1)
    entries, is_true, sizes = [], [], []
    for query, (start, stop) in enumerate(zip(listed.offsets[:-1], listed.offsets[1:], strict=True)):
        rest = np.ones(len(names), dtype=bool)
        rest[own[query]] = names[own[query]] != listed.query_images[query]
        rest[entry_of[start:stop]] = False
        others = np.flatnonzero(rest).astype(np.int32)
        entries += [entry_of[start:stop], others]
        is_true += [listed.is_true[start:stop], np.zeros(len(others), dtype=bool)]
        sizes.append(stop - start + len(others))
    return ListedGalleries(
        query_images=listed.query_images,
        query_boxes=listed.query_boxes,
        offsets=offsets_of(np.array(sizes)),
        image_names=names,
        entries=np.concatenate(entries),
        is_true=np.concatenate(is_true),
        boxes=listed.boxes,
    )
