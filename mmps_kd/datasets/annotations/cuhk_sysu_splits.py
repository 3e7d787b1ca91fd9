"""The two splits of CUHK-SYSU, put together from its annotation files."""

from pathlib import Path

import numpy as np

from .cuhk_sysu import read_images, read_pool, read_protocol, read_train
from .matching import with_identities
from .structures import Annotations


def read_train_split(root: Path) -> tuple[Annotations, np.ndarray]:
    """People of the training images: all images that pool.mat does not list as test images.

    Returns:
        The people, a pid being the position in Train.mat; and the names of the identities in that order, (T,) str.
    """
    images, (names, pids, appear_in, boxes) = read_images(root), read_train(root)
    people = with_identities(images, appear_in, boxes, pids, 'Train.mat')
    return people.of_images(~np.isin(people.image_names, read_pool(root))), names


def read_test_split(root: Path, gallery_size: int) -> Annotations:
    """People of the test images in pool.mat; a pid is the position of the query in the TestG files.

    Args:
        root: The dataset's folder.
        gallery_size: Whose TestG file says where the queried people are.
    """
    listed = read_protocol(root, gallery_size)
    query_of_entry = np.repeat(np.arange(len(listed.query_images)), np.diff(listed.offsets))
    people = with_identities(
        read_images(root),
        np.concatenate([listed.query_images, listed.image_names[listed.entries[listed.is_true]]]),
        np.concatenate([listed.query_boxes, listed.boxes]),
        np.concatenate([np.arange(len(listed.query_images)), query_of_entry[listed.is_true]]),
        f'TestG{gallery_size}.mat',
    )
    return people.of_images(np.isin(people.image_names, read_pool(root)))
