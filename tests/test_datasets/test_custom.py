import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmengine.logging import MMLogger

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


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest) -> pytest.LogCaptureFixture:
    MMLogger.get_instance(request.node.name).addHandler(caplog.handler)
    return caplog


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


def test_across_cameras_the_default_queries_are_seen_by_two(write):
    names = ['in/a.jpg', 'in/b.jpg', 'c.jpg', 'd.jpg']
    cameras = ['door', 'yard', 'yard', 'yard']
    images = [dict(id=i, file_name=name, camera=c) for i, (name, c) in enumerate(zip(names, cameras, strict=True))]
    protocol = build(write(images=images), 'test', cross_camera=True).metainfo['evaluation'].protocols['cross_camera']
    # Person 8 is in two images of one camera. Person 3 is searched from b.jpg, in the image of the other camera.
    assert protocol.query_pids.tolist() == [3] and protocol.query_images.tolist() == ['in/b.jpg']
    assert protocol.entries.tolist() == protocol.truth_images.tolist() == [0]
    one_camera = [{**image, 'camera': 0} for image in images]
    with pytest.raises(UserError, match='no query: no identity appears in two cameras; give a query_file'):
        build(write(images=one_camera), 'test', cross_camera=True)


def test_a_gallery_is_searched_instead_of_all_images(write):
    queries = [{'annotation_id': 5, 'gallery': [2, 'in/a.jpg', 'd.jpg']}, {'annotation_id': 7}]
    protocol = build(write(queries=queries), 'test').metainfo['evaluation'].protocols['full']
    # Person 3, from a.jpg: that image itself is left out. Person 8, from b.jpg: all other images.
    assert [protocol.of_query(query).entries.tolist() for query in (0, 1)] == [[2, 3], [0, 2, 3]]
    assert protocol.truth_images.tolist() == [2, 2]


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
        ([], 'no query: "queries" is empty: list annotation ids'),
        (None, 'no query: no identity appears in two images'),
    ],
)
def test_wrong_queries_are_named(write, queries: list, message: str):
    more = {} if queries else dict(annotations=[])
    with pytest.raises(UserError, match=r'people\.json.*' + message):
        build(write(queries=queries, **more), 'test')


def test_absent_queries_can_be_left_out(write, log):
    root = write(queries=[{'annotation_id': i} for i in (3, 7, 6, 5)])  # 3 is in one image only, 6 is unlabelled
    dataset = build(root, 'test', on_absent_query='skip')
    assert queries_of(dataset) == [('in/b.jpg', 7, 8), ('in/a.jpg', 5, 3)]
    assert dataset.metainfo['evaluation'].num_absent == 2
    assert 'left out 2 of 4 queries, whose person is nowhere in the gallery' in log.text
    with pytest.raises(UserError, match='absent from the gallery: 2 of 4'):
        build(root, 'test')


def test_no_query_may_be_left(write):
    with pytest.raises(UserError, match=r'people\.json: no query is left: the persons of all 1 are absent'):
        build(write(queries=[{'annotation_id': 3}]), 'test', on_absent_query='skip')
    with pytest.raises(UserError, match="on_absent_query must be 'error' or 'skip', got 'drop'"):
        build(write(), 'test', on_absent_query='drop')


def test_a_default_query_has_a_box(write):
    people = [
        {'id': i, 'image_id': image, 'bbox': [5, 5, width, 9], 'person_id': pid}
        for i, (image, width, pid) in enumerate([(0, 0, 1), (0, 9, 1), (1, 9, 1), (0, 9, 2), (1, 0, 2)])
    ]
    dataset = build(write(annotations=people), 'test')
    assert dataset.metainfo['evaluation'].main.query_pids.tolist() == [1]
    assert dataset.metainfo['evaluation'].main.query_boxes.tolist() == [[5, 5, 14, 14]]


CLASSES = [{'id': 1, 'name': 'person'}, {'id': 4, 'name': 'car'}]


def with_cars() -> list[dict]:
    """Two people and two cars in two images, and a crowd in the second."""
    things = [(0, 1, 3, 0), (1, 1, 3, 0), (0, 4, 7, 0), (1, 4, 7, 0), (1, 1, None, 1)]
    return [
        dict(id=i, image_id=image, bbox=[10 * i, 5, 9, 20], category_id=category, person_id=pid, iscrowd=crowd)
        for i, (image, category, pid, crowd) in enumerate(things)
    ]


@pytest.mark.parametrize(
    ('name', 'lefts', 'identities', 'left_out'),
    [('person', [0, 10, 40], (3,), '2 car'), ('car', [20, 30], (7,), '3 person')],
)
def test_the_class_says_who_is_searched(write, log, name: str, lefts: list, identities: tuple, left_out: str):
    root, metainfo = write(annotations=with_cars(), categories=CLASSES), dict(classes=(name,))
    train = build(root, 'train', metainfo=metainfo)
    found = [p for i in range(len(train)) for p in train.get_data_info(i)['instances']]
    assert [p['bbox'][0] for p in found] == lefts and {p['bbox_label'] for p in found} == {0}
    assert train.metainfo['identities'] == identities
    assert f'annotations of other categories: {left_out}' in log.text
    test = build(root, 'test', metainfo=metainfo).metainfo['evaluation']
    assert test.main.query_pids.tolist() == list(identities)
    assert len(test.ground_truth.boxes) == 2


@pytest.mark.parametrize('classes', [('person', 'car'), (), 'car', None])
@pytest.mark.parametrize('lazy_init', [True, False])
def test_there_is_one_class(write, classes, lazy_init: bool):
    with pytest.raises(UserError, match=r"metainfo\['classes'\] is .*: a person search is for one class"):
        build(write(), 'train', metainfo=dict(classes=classes), lazy_init=lazy_init)


def test_a_crowd_is_an_ignored_instance(write, log):
    pipeline = [dict(type='LoadScene'), dict(type='LoadPersonSearchAnnotations'), dict(type='PackPersonSearchInputs')]
    root = write(annotations=with_cars(), categories=CLASSES)
    sample = build(root, 'train', pipeline=pipeline)[1]['data_samples']
    assert sample.gt_instances.bboxes.tensor.tolist() == [[10, 5, 19, 25]]
    assert sample.gt_instances.pids.tolist() == [0]
    assert sample.ignored_instances.bboxes.tensor.tolist() == [[40, 5, 49, 25]]
    assert '1 annotations with iscrowd or ignore are regions, not persons' in log.text
    with pytest.raises(UserError, match='no training image has a person in it'):
        build(write(annotations=with_cars()[-1:]), 'train')


@pytest.mark.parametrize(('name', 'near'), [('IN/A.jpg', 'in/a.jpg'), ('c.JPG', 'c.jpg'), ('In\\b.jpg', 'in/b.jpg')])
def test_a_missing_image_names_the_near_one(write, name: str, near: str):
    root = write(images=[{'id': 0, 'file_name': name}], annotations=[])
    with pytest.raises(UserError, match=rf"lacks 1 of the 1 images .*, first .* \(there is '{near}'\)"):
        build(root, 'train')


def test_a_query_file_names_any_file(write):
    names = ['a b\u3000c.PNG', 'd\u00a0.jpg', 'cam/e.jpg']
    root = write()
    (root / 'images/cam').mkdir()
    for name in names:
        shutil.copy(root / 'images/c.jpg', root / 'images' / name)
    images = [{'id': i, 'file_name': name} for i, name in enumerate(names)]
    people = [{'id': i, 'image_id': i, 'bbox': [1, 1, 9, 9], 'person_id': 1} for i in range(3)]
    write(images=images, annotations=people)
    lines = '1 1 1 9 9 a b\u3000c.PNG\r\n1 1 1 9 9 d\u00a0\n1 1 1 9 9 ./cam\\e.jpg\n'
    (root / 'queries.txt').write_bytes(lines.encode())
    assert [name for name, *_ in queries_of(build(root, 'test', query_file='queries.txt'))] == names


def test_a_missing_json_is_named(write):
    with pytest.raises(UserError, match=r'gone\.json: no such file'):
        build(write(), 'train', ann_file='gone.json')


def test_nobody_to_search(write):
    root = write(annotations=[{'id': 0, 'image_id': 0, 'bbox': [0, 0, 5, 5], 'person_id': 1}])
    with pytest.raises(UserError, match='no query: no identity appears in two images; give a query_file'):
        build(root, 'test')


def test_the_real_prw_json_trains(shared_data: Path, tmp_path: Path):
    with pytest.raises(UserError, match='images lacks 5704 of the 5704 images'):
        build(tmp_path, 'train', ann_file=str(shared_data / 'prw_train_pid.json'))
