import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmdet.registry import DATASETS

from mmps_kd.datasets import CustomPersonSearchDataset
from mmps_kd.errors import UserError

# annotation id: image, person
PEOPLE = {
    5: (0, 3),
    1: (1, 3),
    2: (2, 3),
    7: (1, 8),
    4: (2, 8),
    3: (0, 9),
    9: (2, None),
    6: (2, -2),
    8: (3, 2),
    0: (3, 2),
}


@pytest.fixture
def write(tmp_path: Path):
    """Write four images, two of them in a folder of their own, and their people; returns the root."""

    def write(**more) -> Path:
        names = ['in/a.jpg', 'in/b.jpg', 'c.jpg', 'd.jpg']
        for name in names:
            (tmp_path / 'images' / name).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / 'images' / name), np.zeros((60, 80, 3), np.uint8))
        people = [
            {'id': i, 'image_id': image, 'bbox': [i, i, 10, 20], 'category_id': 1}
            | ({} if pid is None else {'person_id': pid})
            for i, (image, pid) in PEOPLE.items()
        ]
        images = [{'id': i, 'file_name': name, 'height': 60, 'width': 80} for i, name in enumerate(names)]
        content = {'images': images, 'annotations': people, **more}
        (tmp_path / 'people.json').write_text(json.dumps(content))
        return tmp_path

    return write


def build(root: Path, split: str, **more) -> CustomPersonSearchDataset:
    cfg = dict(type='CustomPersonSearchDataset', data_root=str(root), ann_file='people.json', split=split)
    return DATASETS.build({**cfg, **more})


def queries_of(dataset: CustomPersonSearchDataset) -> list[tuple]:
    protocol = dataset.metainfo['evaluation'].protocols['full']
    columns = protocol.query_images, protocol.query_boxes[:, 0], protocol.query_pids
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_training(write):
    dataset = build(write(), 'train')
    assert dataset.metainfo['identities'] == (2, 3, 8, 9)
    assert [[p['pid'] for p in dataset.get_data_info(i)['instances']] for i in range(4)] == [
        [1, 3],
        [1, 2],
        [1, 2, -1, -1],
        [0, 0],
    ]
    info = dataset.get_data_info(0)
    assert (info['img_name'], info['height'], info['width']) == ('in/a.jpg', 60, 80)
    assert info['img_path'].endswith('/images/in/a.jpg')


def test_by_default_the_lowest_id_of_everybody_in_two_images_is_a_query(write):
    dataset = build(write(), 'test')
    # Person 2 is in one image twice, person 9 in one image once: they cannot be searched.
    assert queries_of(dataset) == [('in/b.jpg', 1, 3), ('c.jpg', 4, 8)]
    protocol = dataset.metainfo['evaluation'].protocols['full']
    assert protocol.entries.tolist() == [0, 2, 3, 0, 1, 3]
    assert protocol.truth_images.tolist() == [0, 2, 1]


def test_the_json_may_list_the_queries(write):
    dataset = build(write(queries=[{'annotation_id': 7}, {'annotation_id': 5}]), 'test')
    assert queries_of(dataset) == [('in/b.jpg', 7, 8), ('in/a.jpg', 5, 3)]
    assert dataset.get_data_info(0)['queries']['ids'].tolist() == [1]


def test_a_query_file_goes_before_the_json(write):
    root = write(queries=[{'annotation_id': 7}])
    (root / 'queries.txt').write_text('3 2 2 10 20 c\n')
    assert queries_of(build(root, 'test', query_file='queries.txt')) == [('c.jpg', 2, 3)]


@pytest.mark.parametrize('split', ['train', 'test'])
def test_a_root_relative_to_the_working_folder(write, monkeypatch, split: str):
    monkeypatch.chdir(write().parent)
    relative = Path(write().name)
    assert len(build(relative, split)) == 4
    assert len(build(relative, split, ann_file=str(write() / 'people.json'))) == 4


def test_an_image_folder_of_another_name(write):
    root = write()
    (root / 'images').rename(root / 'pictures')
    assert len(build(root, 'train', data_prefix=dict(img='pictures/'))) == 4


@pytest.mark.parametrize(
    ('queries', 'message'),
    [
        ([{'annotation_id': 77}], 'queries name annotation_id 77'),
        ([{'annotation_id': 3}], r'absent from the gallery: 1 of 1 .* \(pid 9 in in/a\.jpg\)'),
        ([{'annotation_id': 6}], r'absent from the gallery: 1 of 1 .* \(pid -1 in c\.jpg\)'),
        ([], 'no query'),
    ],
)
def test_wrong_queries_are_named(write, queries: list, message: str):
    with pytest.raises(UserError, match=r'people\.json.*' + message):
        build(write(queries=queries), 'test')


def test_a_missing_json_is_named(write):
    with pytest.raises(UserError, match=r'gone\.json: no such file'):
        build(write(), 'train', ann_file='gone.json')


def test_nobody_to_search(write):
    root = write(annotations=[{'id': 0, 'image_id': 0, 'bbox': [0, 0, 5, 5], 'person_id': 1}])
    with pytest.raises(UserError, match='no query: no identity is seen in two images; give a query_file'):
        build(root, 'test')


def test_the_real_prw_json_trains(shared_data: Path, tmp_path: Path):
    with pytest.raises(UserError, match='images lacks 5704 of the 5704 images'):
        build(tmp_path, 'train', ann_file=str(shared_data / 'prw_train_pid.json'))
