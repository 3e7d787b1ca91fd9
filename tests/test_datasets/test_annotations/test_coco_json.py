import json
from pathlib import Path

import numpy as np
import pytest

from mmps_kd.datasets.annotations.coco_json import read_coco_json
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


def test_people_come_image_by_image(write):
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
    assert queries == [2]


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ([], 'has no list "images"'),
        ({'images': IMAGES}, 'has no list "annotations"'),
        ({'images': [{'id': 1}], 'annotations': []}, '"images" has no "file_name"'),
        ({'images': [{'file_name': 'a'}], 'annotations': []}, '"images" has no "id"'),
        ({'images': IMAGES, 'annotations': [{'id': 1, 'image_id': 3}]}, '"annotations" has no "bbox"'),
        ({'images': IMAGES, 'annotations': [{'image_id': 3, 'bbox': [0, 0, 1, 1]}]}, '"annotations" has no "id"'),
        ({'images': IMAGES, 'annotations': [{'id': 1, 'image_id': 9, 'bbox': [0, 0, 1, 1]}]}, 'image_id 9'),
        ({'images': IMAGES, 'annotations': [{'id': 1, 'image_id': 3, 'bbox': [0, 0, 1]}]}, r'got \[0, 0, 1\]'),
        ({'images': IMAGES, 'annotations': PEOPLE, 'queries': [{}]}, '"queries" has no "annotation_id"'),
        (
            {'images': IMAGES, 'annotations': [{'id': 1, 'image_id': 3, 'bbox': 'abcd'}]},
            'people.json is truncated, dam',
        ),
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
    with pytest.raises(UserError, match=r'people\.json .*JSONDecodeError'):
        read_coco_json(path)


@pytest.mark.parametrize(('split', 'counts'), [('train', (5704, 18048, 483, 3141)), ('test', (6112, 25062, 544, 5935))])
def test_the_real_prw_files_load(shared_data: Path, split: str, counts: tuple):
    people, _, _ = read_coco_json(shared_data / f'prw_{split}_pid.json')
    unlabelled = (people.pids == -1).sum()
    assert (len(people.image_names), len(people.boxes), len(np.unique(people.pids)) - 1, unlabelled) == counts
