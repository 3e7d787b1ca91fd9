"""Reading COCO-style JSON whose annotations carry ``person_id``."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from mmps_kd.errors import UserError

from .matlab import reading, require_file
from .soundness import sound
from .structures import Annotations, corners


def read_coco_json(path: Path) -> tuple[Annotations, np.ndarray, list[int] | None]:
    """Read images and people.

    Args:
        path: File with ``images`` (``id``, ``file_name``, optionally ``height`` and ``width``), ``annotations``
            (``id``, ``image_id``, ``bbox`` as x, y, w, h, optionally ``person_id``; below 0 or absent: unlabelled)
            and optionally ``queries`` (``annotation_id``).

    Returns:
        The people, each image's in the order of the file; the annotation id of each box (M,) int64; and the
        annotation ids of the listed queries, None where the file has no ``queries``.

    Raises:
        UserError: If the file is missing or damaged, lacks a key, or names an image that is not listed.
    """
    require_file(path)
    with reading(path):
        return _parse(path, json.loads(path.read_bytes()))


def _parse(path: Path, content: Any) -> tuple[Annotations, np.ndarray, list[int] | None]:
    images, people = (_entries(path, content, key) for key in ('images', 'annotations'))
    image_of_box = _image_of_box(path, images, people)
    order = np.argsort(image_of_box, kind='stable')
    pids = np.array([_person_id(path, person) for person in people], dtype=np.int64).clip(-1)
    annotations = Annotations(
        image_names=np.array([_value(path, 'images', image, 'file_name') for image in images], dtype=np.str_),
        num_boxes=np.bincount(image_of_box, minlength=len(images)),
        boxes=corners(_boxes(path, people))[order],
        pids=pids[order],
        image_sizes=_image_sizes(images),
    )
    ids = np.array([_value(path, 'annotations', person, 'id') for person in people], dtype=np.int64)
    return sound(annotations, str(path)), ids[order], _query_ids(path, content)


def _image_of_box(path: Path, images: list[dict], people: list[dict]) -> np.ndarray:
    index = {_value(path, 'images', image, 'id'): i for i, image in enumerate(images)}
    if len(index) < len(images):
        raise UserError(f'{path}: several entries of "images" have the same "id"; number them differently')
    image_ids = [_value(path, 'annotations', person, 'image_id') for person in people]
    unknown = [image_id for image_id in image_ids if image_id not in index]
    if unknown:
        raise UserError(f'{path}: annotations name image_id {unknown[0]}, which is not among the images')
    return np.array([index[image_id] for image_id in image_ids], dtype=np.int64)


def _entries(path: Path, content: Any, key: str) -> list[dict]:
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise UserError(f'{path} has no list "{key}"; the format is in docs/datasets.md')
    return content[key]


def _value(path: Path, section: str, entry: dict, key: str) -> Any:
    if key not in entry:
        raise UserError(f'{path}: an entry of "{section}" has no "{key}": {str(entry)[:100]}')
    return entry[key]


def _person_id(path: Path, person: dict) -> int:
    pid = person.get('person_id', -1)
    if type(pid) is not int:
        raise UserError(f'{path}: a person_id is a whole number, got {pid!r}; leave it out where nobody knows it')
    return pid


def _boxes(path: Path, people: list[dict]) -> np.ndarray:
    boxes = [_value(path, 'annotations', person, 'bbox') for person in people]
    wrong = [box for box in boxes if len(box) != 4]
    if wrong:
        raise UserError(f'{path}: a bbox is x, y, width, height; got {wrong[0]}')
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def _image_sizes(images: list[dict]) -> np.ndarray | None:
    if not all('height' in image and 'width' in image for image in images):
        return None
    return np.array([(image['height'], image['width']) for image in images], dtype=np.int64).reshape(-1, 2)


def _query_ids(path: Path, content: dict) -> list[int] | None:
    if 'queries' not in content:
        return None
    ids = [_value(path, 'queries', query, 'annotation_id') for query in _entries(path, content, 'queries')]
    if not all(isinstance(annotation_id, int) for annotation_id in ids):
        raise UserError(f'{path}: an annotation_id of "queries" is no whole number')
    return ids
