"""Reader of COCO-style JSON whose annotations have ``person_id``: custom data sets, and PRW without MATLAB files."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmps_kd.errors import UserError
from mmps_kd.structures import UNLABELLED, Annotations, corners
from mmps_kd.structures.annotations import find_name_fault, name_in_folder

from .matlab import require_file

PERSON = 'person'
"""The default class."""
_LARGEST = 2**63 - 1


def read_coco_json(
    path: Path, classes: Sequence[str] = (PERSON,), image_folder: Path | None = None
) -> tuple[Annotations, np.ndarray, dict[int, list[str] | None] | None]:
    """Read images and annotations.

    Annotations of other categories are left out, and one with ``iscrowd`` or ``ignore`` is an ignored region, as in
    COCO. In a file without ``categories`` all annotations are of the class. Where ``classes`` is not ``person``, the
    only category of a file may have another name. Numbers are JSON numbers, not text.

    Args:
        path: File with ``images`` (``id``, ``file_name``, optionally ``height``, ``width`` and ``camera``),
            ``annotations`` (``id``, ``image_id``, ``bbox`` as x, y, w, h, optionally ``category_id``, ``iscrowd``,
            ``ignore`` and ``person_id``; below 0, null or absent: unlabelled), and optionally ``categories`` (``id``,
            ``name``) and ``queries`` (``annotation_id``, optionally ``gallery``, ids or names of images).
        classes: Names of the categories to read.
        image_folder: Where the images are, see :func:`~mmps_kd.structures.name_in_folder`; None if it is not known.

    Returns:
        The annotations, each image's in the order of the file; the annotation id of each box (M,) int64; and the
        listed queries, the names of the images in its gallery (None: not given) by annotation id, None where the file
        has no ``queries``.

    Raises:
        UserError: If the file is missing or no JSON; or with one message for each wrong annotation, image, category or
            query.
    """
    require_file(path)
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path} is no valid JSON ({error}): correct it or export it again') from error
    errors, notes = [], []
    lists = {key: _entries(content, key, errors) for key in ('images', 'annotations', 'categories', 'queries')}
    if not errors:
        images = _read_images(lists['images'], image_folder, errors)
        categories = _read_categories(lists['categories'], lists['annotations'], classes, errors, notes)
        boxes, skipped = _read_boxes(lists['annotations'], images, categories, classes, errors)
        queries = None
        if content.get('queries') is not None:
            queries = _read_queries(lists['queries'], boxes, skipped, images, image_folder, errors)
    if errors:
        raise UserError(*(f'{path}: {error}' for error in errors))
    return *_to_arrays(images, boxes, skipped, notes), queries


def _entries(content: Any, key: str, errors: list[str]) -> list[dict]:
    """A list of objects; ``categories`` and ``queries`` may be absent or null."""
    entries = content.get(key) if isinstance(content, dict) else None
    if entries is None and key in ('categories', 'queries'):
        return []
    if not isinstance(entries, list):
        errors.append(f'the file has no list "{key}"; the format is in docs/own_data.md')
        return []
    wanted = '{"annotation_id": ...}' if key == 'queries' else 'an object'
    errors += [
        f'entry {i} of "{key}" is {_show(entry)}, not {wanted}'
        for i, entry in enumerate(entries)
        if not isinstance(entry, dict)
    ]
    return entries


def _read_images(images: list[dict], folder: Path | None, errors: list[str]) -> dict[int | str, tuple]:
    """Name, camera, height and width of each image by its id; a size that is not given is 0, a camera empty."""
    found, names = {}, []
    for i, image in enumerate(images):
        key, name = _id(image.get('id')), image.get('file_name')
        if key is None:
            errors.append(f'entry {i} of "images" has no "id" that is a whole number or text: {_show(image)}')
            continue
        if not isinstance(name, str):
            errors.append(f'image {key!r} has no "file_name" that is text: {_show(image)}')
            continue
        if key in found:
            errors.append(f'several entries of "images" have the same "id" {key!r}; number them differently')
        if fault := find_name_fault(name):
            errors.append(f'image {key!r} names {fault}')
        else:
            name = name_in_folder(name, folder)
            names.append(name)
        size = [_size(image.get(side)) for side in ('height', 'width')]
        if None in size:
            shown = ' x '.join(_show(image.get(side)) for side in ('width', 'height'))
            errors.append(
                f'image {key!r} ({name}): {shown} is no size in pixels; correct or leave out width and height'
            )
        camera = image.get('camera')
        camera = '' if _unknown(camera) else _id(camera)
        if camera is None:
            errors.append(f'image {key!r} ({name}): a camera is text or a whole number, got {_show(image["camera"])}')
        found[key] = name, str(camera), *size
    for name, times in Counter(names).items():
        if times > 1:
            errors.append(f'image {name} is listed {times} times: list each image once')
    return found


def _read_categories(
    categories: list[dict], annotations: list[dict], classes: Sequence[str], errors: list[str], notes: list[str]
) -> dict[int | str, str]:
    """Name of each category by its id; empty where the file does not list any."""
    names = {}
    for i, category in enumerate(categories):
        key, name = _id(category.get('id')), category.get('name')
        if key is None or not isinstance(name, str):
            errors.append(f'entry {i} of "categories" has no "id" and "name": {_show(category)}')
        elif key in names:
            errors.append(f'several entries of "categories" have the same "id" {key!r}; number them differently')
        else:
            names[key] = name
    if names and not set(names.values()) & set(classes):
        listed = ', '.join(map(repr, names.values()))
        if len(names) == 1 and classes[0] != PERSON:
            notes.append(f'the file has one category, {listed}: it is taken for {classes[0]!r}')
            return dict.fromkeys(names, classes[0])
        errors.append(
            f'"categories" lists {listed}, not {classes[0]!r}: name the one to search for, such as '
            f'metainfo=dict(classes=({next(iter(names.values()))!r},)) of the dataset, --class of check_dataset.py'
        )
    if not categories:
        used = list(dict.fromkeys(_show(a['category_id']) for a in annotations if a.get('category_id') is not None))
        if len(used) > 1:
            errors.append(f'annotations have category_id {used[0]} and {used[1]}, and there is no "categories": add it')
    return names


def _read_boxes(
    annotations: list[dict],
    images: dict[int | str, tuple],
    categories: dict[int | str, str],
    classes: Sequence[str],
    errors: list[str],
) -> tuple[dict[int, tuple], dict[int, str]]:
    """Image id, box as x, y, w, h, person id and whether it is an ignored region, by annotation id.

    Returns:
        These, and the category of each annotation that is of another one, by annotation id.
    """
    boxes, skipped, ids = {}, {}, set()
    for i, annotation in enumerate(annotations):
        key, image = _whole(annotation.get('id')), _id(annotation.get('image_id'))
        if key is None or abs(key) > _LARGEST:
            shown = 'has no "id"' if annotation.get('id') is None else f'has the "id" {_show(annotation["id"])}'
            errors.append(f'entry {i} of "annotations" {shown}; ids are whole numbers of 64 bits: {_show(annotation)}')
            continue
        num_errors, this = len(errors), f'annotation {key}'
        if key in ids:
            errors.append(f'several entries of "annotations" have the same "id" {key}; number them differently')
        ids.add(key)
        if image not in images:
            errors.append(
                f'{this} names image_id {_show(annotation.get("image_id"))}, which is not among the images'
                f'{"" if image is None else _other_type(image, images)}'
            )
        category = annotation.get('category_id')
        if categories and not (category is None and len(categories) == 1):
            name = categories.get(_id(category))
            if name is None:
                errors.append(f'{this} has category_id {_show(category)}, which "categories" does not list')
            elif name not in classes:
                skipped[key] = name
        if key in skipped:
            continue
        flags = [annotation.get(flag) for flag in ('iscrowd', 'ignore')]
        if any(flag not in (None, 0, 1) for flag in flags):
            errors.append(f'{this}: iscrowd and ignore are 0 or 1, got {_show(flags)}')
        pid = annotation.get('person_id')
        pid = UNLABELLED if _unknown(pid) else _whole(pid)
        if pid is None:
            errors.append(
                f'{this}: a person_id is a whole number, got {_show(annotation["person_id"])}; leave it out where '
                'it is not known, number the persons where they have names'
            )
        elif abs(pid) > _LARGEST:
            errors.append(f'{this}: person_id {_show(pid)} has more than 64 bits; number the persons otherwise')
        box = annotation.get('bbox')
        if box is None or box == []:
            segmented = ' but a segmentation: add the box around it' if annotation.get('segmentation') else ''
            errors.append(f'{this} has no "bbox"{segmented}')
        elif not isinstance(box, list) or len(box) != 4 or not all(type(value) in (int, float) for value in box):
            errors.append(f'{this}: a bbox is four numbers, x, y, width, height; got {_show(box)}')
        elif not all(abs(value) < 1e300 for value in box):
            errors.append(f'{this}: bbox {_show(box)} is not finite: correct or remove it')
        if len(errors) == num_errors:
            boxes[key] = image, box, pid, any(flags)
    return boxes, skipped


def _read_queries(
    queries: list[dict],
    boxes: dict[int, tuple],
    skipped: dict[int, str],
    images: dict[int | str, tuple],
    folder: Path | None,
    errors: list[str],
) -> dict[int, list[str] | None]:
    """Names of the images in each query's gallery by its annotation id; None where they are not given."""
    ids, faulty, galleries = [], bool(errors), {}
    names = {name for name, *_ in images.values()}
    for i, query in enumerate(queries):
        key = _whole(query.get('annotation_id'))
        if key is None:
            errors.append(f'entry {i} of "queries" has no "annotation_id" that is a whole number: {_show(query)}')
        elif key in skipped:
            errors.append(f'queries name annotation_id {key}, which is of the category {skipped[key]!r}')
        elif key not in boxes and not faulty:  # else it may be one of the faulty annotations
            errors.append(f'queries name annotation_id {_show(key)}, which is not among the annotations')
        elif key in boxes and boxes[key][3]:
            errors.append(f'queries name annotation_id {key}, which has iscrowd or ignore: that is no single person')
        ids.append(key)
        listed = query.get('gallery')
        if listed is not None and not isinstance(listed, list):
            errors.append(f'query {key}: a gallery is a list of ids or file names of images, got {_show(listed)}')
            listed = None
        gallery = None
        if listed is not None:
            gallery = [images[_id(entry)][0] if _id(entry) in images else entry for entry in listed]
            # A name may be written as under "images", where it was shortened.
            gallery = [
                name_in_folder(entry, folder) if isinstance(entry, str) and entry not in names else entry
                for entry in gallery
            ]
            unknown = [entry for entry in gallery if not isinstance(entry, str) or entry not in names]
            errors += [
                f'query {key}: its gallery names {_show(entry)}, which is not among the images' for entry in unknown
            ]
            twice = [name for name, times in Counter(map(str, gallery)).items() if times > 1]
            errors += [f'query {key}: its gallery names {name} several times: list each image once' for name in twice]
        galleries[key] = gallery
    repeated = [key for key, times in Counter(ids).items() if times > 1 and key is not None]
    errors += [f'queries name annotation_id {_show(key)} several times: list each once' for key in repeated]
    return galleries


def _to_arrays(
    images: dict[int | str, tuple], boxes: dict[int, tuple], skipped: dict[int, str], notes: list[str]
) -> tuple[Annotations, np.ndarray]:
    index = {key: i for i, key in enumerate(images)}
    image_of_box = np.array([index[image] for image, *_ in boxes.values()], dtype=np.int64)
    order = np.argsort(image_of_box, kind='stable')
    ignored = np.array([ignored for *_, ignored in boxes.values()], dtype=bool)
    pids = np.array([pid for _, _, pid, _ in boxes.values()], dtype=np.int64).clip(UNLABELLED)
    sizes = np.array([size for _, _, *size in images.values()], dtype=np.int64).reshape(-1, 2)
    cameras = np.array([camera for _, camera, *_ in images.values()], dtype=np.str_)
    if skipped:
        counts = ', '.join(f'{times} {name}' for name, times in Counter(skipped.values()).items())
        notes.append(f'left out {len(skipped)} annotations of other categories: {counts}')
    if ignored.any():
        labelled = (pids[ignored] >= 0).sum()
        regions = f'{ignored.sum()} annotations with iscrowd or ignore are regions, not persons'
        notes.append(f'{regions}; {labelled} person_id left out')
    annotations = Annotations(
        image_names=np.array([name for name, *_ in images.values()], dtype=np.str_),
        num_boxes=np.bincount(image_of_box, minlength=len(images)),
        boxes=corners(np.array([box for _, box, *_ in boxes.values()], dtype=np.float64).reshape(-1, 4))[order],
        pids=np.where(ignored, UNLABELLED, pids)[order],
        image_sizes=sizes if (sizes > 0).any() else None,
        ignored=ignored[order],
        cameras=cameras if (cameras != '').any() else None,
        notes=tuple(notes),
    )
    return annotations, np.array(list(boxes), dtype=np.int64)[order]


def _unknown(value: Any) -> bool:
    """Null, or NaN, as pandas writes a missing number."""
    return value is None or value != value


def _whole(value: Any) -> int | None:
    """A whole number, also as 12.0; None for anything else."""
    if type(value) is float and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value if type(value) is int else None


def _id(value: Any) -> int | str | None:
    return value if isinstance(value, str) else _whole(value)


def _size(value: Any) -> int | None:
    """Pixels; 0 where they are not given: absent, null, 0 or below; None for what is no number of pixels."""
    pixels = 0 if _unknown(value) else _whole(value)
    return None if pixels is None or pixels > _LARGEST else max(pixels, 0)


def _other_type(key: int | str, known: dict[int | str, Any]) -> str:
    """A hint where a number and a text are mixed up."""
    other = str(key) if isinstance(key, int) else int(key) if key.isdecimal() else None
    return f' (there is an image {other!r}: a number and a text differ)' if other in known else ''


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f'{text[:100]}...'
