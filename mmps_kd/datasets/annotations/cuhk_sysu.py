"""Reading CUHK-SYSU's annotation folder.

The nesting of the MATLAB structs is read as the public codebases read it; boxes are x, y, w, h there and are taken
as whole pixels.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmps_kd.datasets.cache import cached
from mmps_kd.errors import UserError

from .matlab import load_mat, reading, require_file, texts
from .soundness import sound
from .struct_stream import iterate_structs
from .structures import Annotations, ListedGalleries, corners, offsets_of

_PROTOCOLS = 'annotation/test/train_test'


def read_images(root: Path) -> Annotations:
    """Every image of the dataset with its people (Images.mat), identities not known (-1)."""
    path = root / 'annotation/Images.mat'
    arrays = _cached(path, _parse_images)
    pids = np.full(len(arrays['boxes']), -1)
    return sound(Annotations(arrays['image_names'], arrays['num_boxes'], corners(arrays['boxes']), pids), str(path))


def read_pool(root: Path) -> np.ndarray:
    """Names of the test images (pool.mat), (N,) str."""
    return _cached(root / 'annotation/pool.mat', _parse_pool)['image_names']


def read_train(root: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The training identities (Train.mat), T in all, that appear A times.

    Returns:
        Identity names (T,) str; and for each appearance the identity's index (A,) int64, the image (A,) str and
        the box (A, 4) float64, x1, y1, x2, y2.
    """
    arrays = _cached(root / _PROTOCOLS / 'Train.mat', _parse_train)
    return arrays['names'], arrays['pids'], arrays['images'], corners(arrays['boxes'])


def has_test_people(root: Path) -> bool:
    """Whether the files that list all people of the test images are there."""
    return all((root / 'annotation' / name).is_file() for name in ('Images.mat', 'pool.mat'))


def gallery_sizes_in(root: Path) -> list[int]:
    """Sizes of the TestG files that are there, ascending."""
    stems = [path.stem[len('TestG') :] for path in (root / _PROTOCOLS).glob('TestG*.mat')]
    return sorted(int(stem) for stem in stems if stem.isdigit())


def read_protocol(root: Path, gallery_size: int) -> ListedGalleries:
    """Queries and galleries of TestG{gallery_size}.mat.

    Raises:
        UserError: If there is no file for that size, naming the sizes that there are.
    """
    path = root / _PROTOCOLS / f'TestG{gallery_size}.mat'
    if not path.is_file() and (sizes := gallery_sizes_in(root)):
        raise UserError(f'{path}: no such file; the gallery sizes in this folder are {sizes}')
    arrays = _cached(path, _parse_protocol)
    arrays['query_boxes'], arrays['boxes'] = corners(arrays['query_boxes']), corners(arrays['boxes'])
    return ListedGalleries(**arrays)


def _cached(path: Path, read: Callable[[Path], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    def read_official() -> dict[str, np.ndarray]:
        with reading(path):
            return read(path)

    require_file(path)
    return cached(f'cuhk-sysu-{path.stem}', [path], read_official)


def _whole_pixels(boxes: list[np.ndarray]) -> np.ndarray:
    """(N, 4) float64 of N boxes that may each have another integer dtype."""
    return np.trunc(np.array([box.reshape(4) for box in boxes], dtype=np.float64).reshape(-1, 4))


def _parse_images(path: Path) -> dict[str, np.ndarray]:
    images = load_mat(path, 'Img')
    people = [image['box'] or [] for image in images]
    return dict(
        image_names=texts([image['imname'] for image in images]),
        num_boxes=np.array([len(boxes) for boxes in people]),
        boxes=_whole_pixels([box['idlocate'] for boxes in people for box in boxes]),
    )


def _parse_pool(path: Path) -> dict[str, np.ndarray]:
    return dict(image_names=texts(load_mat(path, 'pool')))


def _parse_train(path: Path) -> dict[str, np.ndarray]:
    identities = [identity for (identity,) in load_mat(path, 'Train')]
    scenes = [(i, scene) for i, identity in enumerate(identities) for scene in identity['scene']]
    return dict(
        names=texts([identity['idname'] for identity in identities]),
        pids=np.array([i for i, _ in scenes]),
        images=texts([scene['imname'] for _, scene in scenes]),
        boxes=_whole_pixels([scene['idlocate'] for _, scene in scenes]),
    )


def _parse_protocol(path: Path) -> dict[str, np.ndarray]:
    queries, entries, is_true, boxes, index = [], [], [], [], {}
    for item in iterate_structs(path, path.stem):
        queries.append(item['Query'][0])
        located = [entry['idlocate'] for entry in item['Gallery']]
        listed = [index.setdefault(entry['imname'], len(index)) for entry in item['Gallery']]
        entries.append(np.array(listed, dtype=np.int32))
        is_true.append(np.array([box is not None for box in located]))
        boxes += [box for box in located if box is not None]
    return dict(
        query_images=texts([query['imname'] for query in queries]),
        query_boxes=_whole_pixels([query['idlocate'] for query in queries]),
        offsets=offsets_of(np.array([len(gallery) for gallery in entries])),
        image_names=texts(list(index)),
        entries=np.concatenate(entries),
        is_true=np.concatenate(is_true),
        boxes=_whole_pixels(boxes),
    )
