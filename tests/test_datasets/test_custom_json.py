import json
from pathlib import Path

import numpy as np
import pytest

from mmps_kd.datasets.custom_json import read_coco_json
from mmps_kd.errors import UserError

IMAGES = [{'id': 7, 'file_name': 'b.jpg'}, {'id': 3, 'file_name': 'a.jpg'}]
PEOPLE = [
    {'id': 0, 'image_id': 3, 'bbox': [1, 2, 10, 20], 'person_id': 4},
    {'id': 1, 'image_id': 7, 'bbox': [5, 5, 1.5, 2], 'person_id': -2},
    {'id': 2, 'image_id': 3, 'bbox': [0, 0, 3, 3]},
]


@pytest.fixture
def write(tmp_path: Path):
    def write(content: object) -> Path:
        path = tmp_path / 'people.json'
        path.write_text(json.dumps(content))
        return path

    return write


def test_boxes_come_image_by_image(write):
    people, ids, queries = read_coco_json(write({'images': IMAGES, 'annotations': PEOPLE}))
    assert people.image_names.tolist() == ['b.jpg', 'a.jpg']
    assert people.num_boxes.tolist() == [1, 2]
    np.testing.assert_array_equal(people.boxes, [[5, 5, 6.5, 7], [1, 2, 11, 22], [0, 0, 3, 3]])
    assert people.pids.tolist() == [-1, 4, -1]
    assert ids.tolist() == [1, 0, 2]
    assert queries is None and people.image_sizes is None


def test_sizes_and_queries_are_read_where_given(write):
    images = [{**image, 'height': 30 + i, 'width': 40} for i, image in enumerate(IMAGES)]
    content = {'images': images, 'annotations': PEOPLE, 'queries': [{'annotation_id': 2}]}
    people, _, queries = read_coco_json(write(content))
    assert people.image_sizes.tolist() == [[30, 40], [31, 40]]
    assert queries == {2: None}


def test_cameras_and_galleries(write):
    images = [{**IMAGES[0], 'camera': 'door'}, {**IMAGES[1], 'camera': 7}]
    first, second = (image['id'] for image in IMAGES)
    queries = [{'annotation_id': 2, 'gallery': [first, 'a.jpg']}, {'annotation_id': 0, 'gallery': []}]
    people, _, found = read_coco_json(write({'images': images, 'annotations': PEOPLE, 'queries': queries}))
    assert people.cameras.tolist() == ['door', '7']
    assert people.of_images(np.array([False, True])).cameras.tolist() == ['7']
    assert found == {2: ['b.jpg', 'a.jpg'], 0: []}
    half = [images[0], {**IMAGES[1], 'camera': None}]
    assert read_coco_json(write({'images': half, 'annotations': PEOPLE}))[0].cameras.tolist() == ['door', '']


def test_a_gallery_names_images_as_the_file_does(write, tmp_path):
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in/a\\b.jpg').touch()  # here the letter is part of the name
    names = ['./in//c.jpg', 'in\\d.jpg', 'in/a\\b.jpg']
    images = [{'id': 7 + i, 'file_name': name} for i, name in enumerate(names)]
    people = [{'id': 2, 'image_id': 7, 'bbox': [0, 0, 3, 3]}]
    path = write({'images': images, 'annotations': people, 'queries': [{'annotation_id': 2, 'gallery': names}]})
    assert read_coco_json(path, image_folder=tmp_path)[2] == {2: ['in/c.jpg', 'in/d.jpg', 'in/a\\b.jpg']}


@pytest.mark.parametrize(
    ('image', 'query', 'message'),
    [
        ({'camera': True}, {}, r'image 7 \(b\.jpg\): a camera is text or a whole number, got True'),
        ({'camera': 1.5}, {}, r'image .* \(b\.jpg\): a camera is text or a whole number, got 1\.5'),
        ({}, {'gallery': 'a.jpg'}, "query 2: a gallery is a list of ids or file names of images, got 'a.jpg'"),
        ({}, {'gallery': ['z.jpg']}, "query 2: its gallery names 'z.jpg', which is not among the images"),
        ({}, {'gallery': [99]}, 'query 2: its gallery names 99, which is not among the images'),
        ({}, {'gallery': ['a.jpg', 'a.jpg']}, 'query 2: its gallery names a.jpg several times: list each image once'),
        ({}, {'gallery': ['a.jpg', 3]}, 'query 2: its gallery names a.jpg several times: list each image once'),
        ({}, {'gallery': [['a.jpg']]}, r"query 2: its gallery names \['a.jpg'\], which is not among the images"),
    ],
)
def test_wrong_cameras_and_galleries(write, image, query, message):
    content = {'images': [{**IMAGES[0], **image}, IMAGES[1]], 'annotations': PEOPLE}
    with pytest.raises(UserError, match=rf'people\.json: {message}'):
        read_coco_json(write({**content, 'queries': [{'annotation_id': 2, **query}]}))


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ([], 'the file has no list "images"'),
        ({'images': [5], 'annotations': PEOPLE}, 'entry 0 of "images" is 5, not an object'),
        ({'images': IMAGES, 'annotations': [None]}, 'entry 0 of "annotations" is None, not an object'),
        ({'images': [{'id': 1, 'file_name': 5}], 'annotations': []}, 'image 1 has no "file_name" that is text'),
        ({'images': [{'id': [1], 'file_name': 'a'}], 'annotations': []}, 'entry 0 of "images" has no "id" that is'),
        ({'images': IMAGES}, 'has no list "annotations"'),
        ({'images': [{'id': 1}], 'annotations': []}, 'image 1 has no "file_name"'),
        ({'images': [{'file_name': 'a'}], 'annotations': []}, '"images" has no "id"'),
        ({'images': IMAGES, 'annotations': [{'id': 1, 'image_id': 3}]}, 'annotation 1 has no "bbox"'),
        ({'images': IMAGES, 'annotations': [{'image_id': 3, 'bbox': [0, 0, 1, 1]}]}, '"annotations" has no "id"'),
        ({'images': IMAGES, 'annotations': [{'id': 1, 'image_id': 9, 'bbox': [0, 0, 1, 1]}]}, 'image_id 9'),
        ({'images': IMAGES, 'annotations': [{'id': 1, 'image_id': 3, 'bbox': [0, 0, 1]}]}, r'got \[0, 0, 1\]'),
        ({'images': IMAGES, 'annotations': PEOPLE, 'queries': [{}]}, '"queries" has no "annotation_id"'),
        ({'images': IMAGES, 'annotations': PEOPLE, 'queries': [1]}, r'entry 0 of "queries" is 1, not {"annotation_id"'),
        ({'images': IMAGES, 'annotations': PEOPLE, 'queries': 3}, 'has no list "queries"'),
        ({'images': [*IMAGES, IMAGES[0]], 'annotations': []}, 'same "id"'),
    ],
)
def test_what_is_wrong_is_named(write, content: object, message: str):
    with pytest.raises(UserError, match=message):
        read_coco_json(write(content))


def test_broken_json_is_one_line(write):
    path = write({})
    path.write_text('{"images": [')
    with pytest.raises(UserError, match=r'people\.json is no valid JSON \(Expecting value: line 1 column 13'):
        read_coco_json(path)


def one(**keys) -> dict:
    """A file with one annotation; a key of value ... is left out."""
    person = {'id': 5, 'image_id': 3, 'bbox': [1, 2, 10, 20], 'person_id': 4} | keys
    return {'images': IMAGES, 'annotations': [{k: v for k, v in person.items() if v is not ...}]}


@pytest.mark.parametrize(
    ('keys', 'message'),
    [
        *((dict(bbox=box), 'annotation 5 has no "bbox"$') for box in (None, [], ...)),
        (dict(bbox=None, segmentation=[[1, 1, 5, 1, 5, 5]]), 'annotation 5 has no "bbox" but a segmentation: add'),
        *(
            (dict(bbox=box), 'annotation 5: a bbox is four numbers, x, y, width, height; got')
            for box in (
                'abcd',
                {'x': 1},
                [1, 2, 3],
                [1, 2, 3, 4, 5],
                ['1', '2', '30', '40'],
                [1, 2, None, 4],
                [True] * 4,
            )
        ),
        *((dict(bbox=[0, 0, v, 9]), 'annotation 5: bbox .* is not finite') for v in (np.nan, -np.inf, 10**400, 1e308)),
        *(
            (dict(person_id=pid), 'annotation 5: a person_id is a whole number, got')
            for pid in ('c3_0012', '12', 1.5, [1], True, 1e300, np.inf)
        ),
        *((dict(person_id=pid), 'annotation 5: person_id .* has more than 64 bits') for pid in (2**63, -(2**70))),
        *((dict(iscrowd=flag), 'annotation 5: iscrowd and ignore are 0 or 1, got') for flag in ('0', 2, [])),
        (dict(ignore='no'), 'annotation 5: iscrowd and ignore are 0 or 1, got'),
        *((dict(id=key), 'entry 0 of "annotations" has the "id" .* whole numbers') for key in ('a1', 1.5, 2**63, True)),
        (dict(id=None), 'entry 0 of "annotations" has no "id"'),
        (dict(image_id='3'), r"annotation 5 names image_id '3', which is not .* \(there is an image 3: a number and"),
        (dict(image_id=[3]), r'annotation 5 names image_id \[3\]'),
    ],
)
def test_a_faulty_annotation_is_named(write, keys: dict, message: str):
    with pytest.raises(UserError, match=r'people\.json: ' + message):
        read_coco_json(write(one(**keys)))


@pytest.mark.parametrize(
    ('pid', 'read'), [(12.0, 12), (None, -1), (np.nan, -1), (-3, -1), (..., -1), (2**63 - 1, 2**63 - 1), (0, 0)]
)
def test_person_ids_that_are_read(write, pid, read: int):
    assert read_coco_json(write(one(person_id=pid)))[0].pids.tolist() == [read]


def test_ids_are_unique_and_everything_is_listed(write):
    images = [*IMAGES, {'id': 7, 'file_name': './/a.jpg'}, {'id': 8, 'file_name': 'c.jpg', 'width': '9'}]
    people = [*PEOPLE, PEOPLE[1], {**PEOPLE[0], 'id': 3, 'category_id': 4}]
    categories = [{'id': 1, 'name': 'person'}, {'id': 1, 'name': 'car'}]
    queries = [{'annotation_id': 0}, {'annotation_id': 0}, {'annotation_id': 'a'}]
    content = dict(images=images, annotations=people, categories=categories, queries=queries)
    with pytest.raises(UserError, match=r'7 \(\d more: check_dataset\.py lists all\)|"id" 7.*more') as caught:
        read_coco_json(write(content))
    text = '\n'.join(caught.value.messages)
    for message in (
        'several entries of "images" have the same "id" 7',
        'image a.jpg is listed 2 times',
        "image 8 (c.jpg): '9' x None is no size in pixels",
        'several entries of "categories" have the same "id" 1',
        'several entries of "annotations" have the same "id" 1',
        'annotation 3 has category_id 4, which "categories" does not list',
        'queries name annotation_id 0 several times',
        'entry 2 of "queries" has no "annotation_id" that is a whole number',
    ):
        assert text.count(message) == 1, message
    assert all(message.startswith(str(write(content))) for message in caught.value.messages)


@pytest.mark.parametrize('size', [(-1, -1), (0, 0), (None, None), (np.nan, None)])
def test_a_size_that_is_not_known_is_not_stated(write, size: tuple):
    images = [{**IMAGES[0], 'height': size[0], 'width': size[1]}, {**IMAGES[1], 'height': 30.0, 'width': 40}]
    assert read_coco_json(write({'images': images, 'annotations': PEOPLE}))[0].image_sizes.tolist() == [
        [0, 0],
        [30, 40],
    ]


CATEGORIES = [{'id': 2, 'name': 'bicycle'}, {'id': 1, 'name': 'person'}, {'id': 3, 'name': 'car'}]


def of_categories(*ids, **more) -> dict:
    """PEOPLE with these category ids."""
    people = [person | ({} if c is None else {'category_id': c}) for person, c in zip(PEOPLE, ids, strict=True)]
    return {'images': IMAGES, 'annotations': people, 'categories': CATEGORIES, **more}


def test_annotations_of_other_categories_are_left_out(write):
    people, ids, _ = read_coco_json(write(of_categories(1, 2, 1)))
    assert people.num_boxes.tolist() == [0, 2] and ids.tolist() == [0, 2]
    assert people.notes == ('left out 1 annotations of other categories: 1 bicycle',)
    assert read_coco_json(write(of_categories(1, 2, 1)), classes=('bicycle',))[1].tolist() == [1]


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (of_categories(1, 9, 1), 'annotation 1 has category_id 9, which "categories" does not list'),
        (of_categories(1, '1', 1), "annotation 1 has category_id '1', which"),
        (of_categories(1, None, 1), 'annotation 1 has category_id None, which'),
        (of_categories(2, 2, 2, categories=CATEGORIES[:1]), "lists 'bicycle', not 'person': name the one"),
        (of_categories(1, 2, 1, categories=[]), 'annotations have category_id 1 and 2, and there is no "categories"'),
        (of_categories(1, 2, 1, categories=[{'id': 1}]), 'entry 0 of "categories" has no "id" and "name"'),
        (of_categories(1, 2, 1, queries=[{'annotation_id': 1}]), "annotation_id 1, which is of the category 'bicycle'"),
        (of_categories(1, 2, 1, queries=[{'annotation_id': 8}]), 'annotation_id 8, which is not among the annotations'),
    ],
)
def test_a_category_that_is_not_clear_is_an_error(write, content: dict, message: str):
    with pytest.raises(UserError, match=r'people\.json: .*' + message):
        read_coco_json(write(content))


def test_the_only_category_may_have_another_name_than_the_class(write):
    path = write(of_categories(1, 1, 1, categories=CATEGORIES[1:2]))
    people, *_ = read_coco_json(path, classes=('dog',))
    assert len(people.boxes) == 3
    assert people.notes == ("the file has one category, 'person': it is taken for 'dog'",)
    with pytest.raises(UserError, match="lists 'bicycle', 'person', 'car', not 'dog'"):
        read_coco_json(write(of_categories(1, 1, 1)), classes=('dog',))


@pytest.mark.parametrize(
    'content',
    [
        of_categories(1, 1, 1, categories=None),
        of_categories(1, 1, None, categories=[]),
        of_categories(None, None, None, categories=CATEGORIES[1:2]),
    ],
)
def test_without_categories_everybody_is_a_person(write, content: dict):
    people, *_ = read_coco_json(write(content))
    assert len(people.boxes) == 3 and people.notes == ()


def test_names_are_written_as_the_files_have_them(write, tmp_path: Path):
    on_disk = ['cam/a.jpg', 'b\\c.jpg', 'e\u0301.jpg', '\u00e8.jpg', 'd.jpg', 'gone/x.jpg']
    in_file = ['cam\\a.jpg', 'b\\c.jpg', '\u00e9.jpg', 'e\u0300.jpg', './/d.jpg', 'gone\\\\x.jpg']
    (tmp_path / 'cam').mkdir()
    for name in on_disk[:-1]:
        (tmp_path / name).touch()
    images = [{'id': i, 'file_name': name} for i, name in enumerate(in_file)]
    people, *_ = read_coco_json(write({'images': images, 'annotations': []}), image_folder=tmp_path)
    assert people.image_names.tolist() == on_disk
    images.append({'id': 9, 'file_name': 'cam//a.jpg'})
    with pytest.raises(UserError, match=r'image cam/a\.jpg is listed 2 times'):
        read_coco_json(write({'images': images, 'annotations': []}), image_folder=tmp_path)


@pytest.mark.parametrize('flag', ['iscrowd', 'ignore'])
def test_a_crowd_is_no_person(write, flag: str):
    people, *_ = read_coco_json(write({'images': IMAGES, 'annotations': [*PEOPLE[1:], {**PEOPLE[0], flag: 1}]}))
    assert people.ignored.tolist() == [False, False, True]
    assert people.pids.tolist() == [-1, -1, -1]
    assert people.notes == ('1 annotations with iscrowd or ignore are regions, not persons; 1 person_id left out',)
    truth = people.ground_truth()
    assert truth.num_boxes.tolist() == [1, 1]
    assert truth.ignored_images.tolist() == [1] and truth.ignored_boxes.tolist() == [[1, 2, 11, 22]]


@pytest.mark.parametrize(('split', 'counts'), [('train', (5704, 18048, 483, 3141)), ('test', (6112, 25062, 544, 5935))])
def test_the_real_prw_files_load(shared_data: Path, split: str, counts: tuple):
    people, _, _ = read_coco_json(shared_data / f'prw_{split}_pid.json')
    unlabelled = (people.pids == -1).sum()
    assert (len(people.image_names), len(people.boxes), len(np.unique(people.pids)) - 1, unlabelled) == counts
