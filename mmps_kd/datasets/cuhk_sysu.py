"""CUHK-SYSU: data set, readers of its files, and its search protocols.

The nesting of the MATLAB structs is read as the public codebases read it. Boxes are x, y, w, h in the files and are
truncated to whole pixels.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from mmdet.registry import DATASETS
from mmengine.logging import print_log

from mmps_kd.errors import UserError
from mmps_kd.structures import UNLABELLED, Annotations, EvaluationSet, SearchProtocol, corners, run_offsets

from .base_person_search import BasePersonSearchDataset, require_truth
from .cache import cached
from .matlab import iterate_structs, load_mat, name_damaged_file, require_file, to_names

GallerySize = int | Literal['all']
_PROTOCOLS = 'annotation/test/train_test'


@DATASETS.register_module()
class CUHKSYSUDataset(BasePersonSearchDataset):
    """CUHK-SYSU (Xiao et al., CVPR 2017): 18,184 images, 8,432 identities, 5,532 of them for training.

    ``data_root`` is the folder that holds ``Image`` and ``annotation``. Training images are all images that
    ``annotation/pool.mat`` does not list.

    Args:
        gallery_sizes: Protocols to evaluate on, see :func:`load_cuhk_sysu_evaluation`; the first is the main one.
        data_prefix: The image folder.
        **kwargs: As for :class:`BasePersonSearchDataset`.
    """

    METAINFO = dict(dataset_name='CUHK-SYSU', **BasePersonSearchDataset.METAINFO)

    def __init__(
        self, gallery_sizes: Sequence[GallerySize] = (100,), data_prefix: dict | None = None, **kwargs
    ) -> None:
        self.gallery_sizes = gallery_sizes
        super().__init__(data_prefix=data_prefix or dict(img='Image/SSM'), **kwargs)

    def load_train(self) -> tuple[Annotations, np.ndarray]:
        """Annotations of the images that pool.mat does not list, and the names of the training identities.

        A pid is the position in Train.mat, and so in the names.
        """
        names, pids, images, boxes = read_train(self.root)
        annotations = assign_pids(_read_images(self.root), images, boxes, pids, 'Train.mat')
        return annotations.of_images(~np.isin(annotations.image_names, read_pool(self.root))), names

    def load_test(self) -> tuple[Annotations, EvaluationSet]:
        """Annotations of the images in pool.mat, and the protocols; a pid is the query's position in TestG."""
        main = _main_size(self.root, self.gallery_sizes)
        annotations = _read_test(self.root, main)
        protocols = _load_protocols(self.root, self.gallery_sizes, main)
        return annotations, EvaluationSet(protocols, annotations.ground_truth())


def load_cuhk_sysu_evaluation(data_root: str | Path, gallery_sizes: Sequence[GallerySize] = (100,)) -> EvaluationSet:
    """What CUHK-SYSU is evaluated on; needs no images.

    ``annotation/test/train_test/TestG{size}.mat`` alone is enough for a size; the ground truth of detection is added
    where Images.mat and pool.mat exist too.

    Args:
        data_root: Folder that holds ``annotation``.
        gallery_sizes: Sizes of the official protocols (50, 100, 500, 1000, 2000, 4000), or 'all' for the full
            set: what the first other size (or the smallest there is) lists for the query, then all other images of
            pool.mat but the query's own.

    Returns:
        Protocols ``gallery_{size}`` in the given order; identities are numbered by query.

    Raises:
        UserError: If a file is missing or damaged, the files disagree on the queries, or a query's person is
            nowhere in its gallery.
    """
    root = Path(data_root)
    main = _main_size(root, gallery_sizes)
    protocols = _load_protocols(root, gallery_sizes, main)
    complete = all((root / 'annotation' / name).is_file() for name in ('Images.mat', 'pool.mat'))
    return EvaluationSet(protocols, _read_test(root, main).ground_truth() if complete else None)


def gallery_sizes_in(root: Path) -> list[int]:
    """Sizes of the TestG files in a folder, ascending."""
    stems = [path.stem[len('TestG') :] for path in (root / _PROTOCOLS).glob('TestG*.mat')]
    return sorted(int(stem) for stem in stems if stem.isdigit())


def _main_size(root: Path, gallery_sizes: Sequence[GallerySize]) -> int:
    """The first size with a TestG file of its own, or the smallest that there is."""
    candidates = [size for size in gallery_sizes if size != 'all'] or gallery_sizes_in(root)
    if not candidates:
        raise UserError(f'{root}: no annotation/test/train_test/TestG*.mat; data_root must hold the official files')
    return candidates[0]


def _load_protocols(root: Path, gallery_sizes: Sequence[GallerySize], main_size: int) -> dict[str, SearchProtocol]:
    main, protocols = _read_protocol(root, main_size), {}
    for size in gallery_sizes:
        if size == 'all':
            protocol = _add_images(main, read_pool(root))
        else:
            protocol = main if size == main_size else _read_protocol(root, size)
        same = np.array_equal(protocol.query_images, main.query_images)
        if not same or not np.array_equal(protocol.query_boxes, main.query_boxes):
            raise UserError(
                f'{root}: TestG{size}.mat has other queries than the other gallery sizes; get the official files'
            )
        require_truth(protocol, 'the full set' if size == 'all' else f'TestG{size}.mat')
        protocols[f'gallery_{size}'] = protocol
    return protocols


def _read_protocol(root: Path, gallery_size: int) -> SearchProtocol:
    """Queries and galleries of TestG{gallery_size}.mat; a query's pid is its position."""
    path = root / _PROTOCOLS / f'TestG{gallery_size}.mat'
    if not path.is_file() and (sizes := gallery_sizes_in(root)):
        raise UserError(f'{path}: no such file; the gallery sizes in this folder are {sizes}')
    arrays = _read_cached(path, _parse_protocol)
    offsets, entries, is_true = arrays['offsets'], arrays['entries'], arrays['is_true']
    return SearchProtocol(
        query_images=arrays['query_images'],
        query_boxes=corners(arrays['query_boxes']),
        query_pids=np.arange(len(arrays['query_images'])),
        gallery_images=arrays['image_names'],
        offsets=offsets,
        entries=entries,
        truth_offsets=run_offsets(is_true)[offsets],  # true entries before each query's first entry
        truth_images=entries[is_true],
        truth_boxes=corners(arrays['boxes']),
    )


def _add_images(protocol: SearchProtocol, pool: np.ndarray) -> SearchProtocol:
    """Append to each gallery the images of the pool that it does not list, but for the query's own."""
    names = np.unique(np.concatenate([pool, protocol.gallery_images]))
    new_index = np.searchsorted(names, protocol.gallery_images).astype(np.int32)
    galleries = []
    for query, image in enumerate(protocol.query_images):
        listed = new_index[protocol.entries[protocol.offsets[query] : protocol.offsets[query + 1]]]
        unlisted = names != image
        unlisted[listed] = False
        galleries.append(np.concatenate([listed, np.flatnonzero(unlisted).astype(np.int32)]))
    return replace(
        protocol,
        gallery_images=names,
        offsets=run_offsets(np.array([len(gallery) for gallery in galleries])),
        entries=np.concatenate(galleries),
        truth_images=new_index[protocol.truth_images],
    )


def _read_test(root: Path, gallery_size: int) -> Annotations:
    """Annotations of the images in pool.mat; the queries and true boxes of a TestG file say which box has which pid."""
    protocol = _read_protocol(root, gallery_size)
    annotations = assign_pids(
        _read_images(root),
        np.concatenate([protocol.query_images, protocol.gallery_images[protocol.truth_images]]),
        np.concatenate([protocol.query_boxes, protocol.truth_boxes]),
        np.concatenate([protocol.query_pids, np.repeat(protocol.query_pids, np.diff(protocol.truth_offsets))]),
        f'TestG{gallery_size}.mat',
    )
    return annotations.of_images(np.isin(annotations.image_names, read_pool(root)))


def assign_pids(
    annotations: Annotations, image_names: np.ndarray, boxes: np.ndarray, pids: np.ndarray, source: str
) -> Annotations:
    """Give boxes the identities of the A listed appearances that have exactly the same box in the same image.

    As in the public codebases, an appearance without an equal box is ignored (a warning counts them), and of several
    equal boxes the first gets the identity.

    Args:
        annotations: Boxes without identity.
        image_names: (A,) str, image of each appearance.
        boxes: (A, 4) float64, x1, y1, x2, y2.
        pids: (A,) int64.
        source: File that lists the appearances, for messages.

    Raises:
        UserError: If an appearance lies in an image that ``annotations`` do not have.
    """
    index = {name: i for i, name in enumerate(annotations.image_names.tolist())}
    unknown = [name for name in image_names.tolist() if name not in index]
    if unknown:
        raise UserError(f'{source} names {unknown[0]}, which Images.mat does not list; get both files from one place')
    listed = np.column_stack([annotations.image_of_box, annotations.boxes])  # (M, 5)
    wanted = np.column_stack([[index[name] for name in image_names.tolist()], boxes])  # (A, 5)
    rows = np.concatenate([listed, wanted])
    _, first, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    matches = first[group.reshape(-1)[len(listed) :]]  # the first equal row: a listed box, or itself if there is none
    found = matches < len(listed)
    if not found.all():
        lost = np.flatnonzero(~found)
        print_log(
            f'{source}: {len(lost)} of {len(found)} boxes are not in Images.mat and are ignored, '
            f'first {boxes[lost[0]].tolist()} (x1, y1, x2, y2) in {image_names[lost[0]]}',
            logger='current',
            level=logging.WARNING,
        )
    new_pids = annotations.pids.copy()
    new_pids[matches[found]] = pids[found]
    return replace(annotations, pids=new_pids)


def _read_images(root: Path) -> Annotations:
    """All images of the data set with their boxes (Images.mat), unlabelled."""
    path = root / 'annotation/Images.mat'
    arrays = _read_cached(path, _parse_images)
    pids = np.full(len(arrays['boxes']), UNLABELLED)
    return Annotations(arrays['image_names'], arrays['num_boxes'], corners(arrays['boxes']), pids).validate(str(path))


def read_pool(root: Path) -> np.ndarray:
    """Names of the test images (pool.mat), (N,) str."""
    return _read_cached(root / 'annotation/pool.mat', _parse_pool)['image_names']


def read_train(root: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The T training identities (Train.mat) in their A appearances.

    Returns:
        Identity names (T,) str; and for each appearance the identity's index (A,) int64, the image (A,) str and
        the box (A, 4) float64, x1, y1, x2, y2.
    """
    arrays = _read_cached(root / _PROTOCOLS / 'Train.mat', _parse_train)
    return arrays['names'], arrays['pids'], arrays['images'], corners(arrays['boxes'])


def _read_cached(path: Path, parse: Callable[[Path], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    def parse_official() -> dict[str, np.ndarray]:
        with name_damaged_file(path):
            return parse(path)

    require_file(path)
    return cached(f'cuhk-sysu-{path.stem}', [path], parse_official)


def _whole_pixels(boxes: list[np.ndarray]) -> np.ndarray:
    """(N, 4) float64 of N boxes that may each have another integer dtype."""
    return np.trunc(np.array([box.reshape(4) for box in boxes], dtype=np.float64).reshape(-1, 4))


def _parse_images(path: Path) -> dict[str, np.ndarray]:
    images = load_mat(path, 'Img')
    boxes_of_images = [image['box'] or [] for image in images]
    return dict(
        image_names=to_names([image['imname'] for image in images]),
        num_boxes=np.array([len(boxes) for boxes in boxes_of_images]),
        boxes=_whole_pixels([box['idlocate'] for boxes in boxes_of_images for box in boxes]),
    )


def _parse_pool(path: Path) -> dict[str, np.ndarray]:
    return dict(image_names=to_names(load_mat(path, 'pool')))


def _parse_train(path: Path) -> dict[str, np.ndarray]:
    identities = [identity for (identity,) in load_mat(path, 'Train')]
    appearances = [(i, scene) for i, identity in enumerate(identities) for scene in identity['scene']]
    return dict(
        names=to_names([identity['idname'] for identity in identities]),
        pids=np.array([i for i, _ in appearances]),
        images=to_names([scene['imname'] for _, scene in appearances]),
        boxes=_whole_pixels([scene['idlocate'] for _, scene in appearances]),
    )


def _parse_protocol(path: Path) -> dict[str, np.ndarray]:
    queries, entries, is_true, boxes, index = [], [], [], [], {}
    for item in iterate_structs(path, path.stem):
        queries.append(item['Query'][0])
        located = [entry['idlocate'] for entry in item['Gallery']]  # None where the person is not in the image
        listed = [index.setdefault(entry['imname'], len(index)) for entry in item['Gallery']]
        entries.append(np.array(listed, dtype=np.int32))
        is_true.append(np.array([box is not None for box in located]))
        boxes += [box for box in located if box is not None]
    return dict(
        query_images=to_names([query['imname'] for query in queries]),
        query_boxes=_whole_pixels([query['idlocate'] for query in queries]),
        offsets=run_offsets(np.array([len(gallery) for gallery in entries])),
        image_names=to_names(list(index)),
        entries=np.concatenate(entries),
        is_true=np.concatenate(is_true),
        boxes=_whole_pixels(boxes),
    )
