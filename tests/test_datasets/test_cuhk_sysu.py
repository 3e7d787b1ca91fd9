import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmengine.logging import MMLogger
from scipy.io import loadmat, savemat

from mmps_kd.datasets import CUHKSYSUDataset, load_cuhk_sysu_evaluation
from mmps_kd.datasets.cuhk_sysu import assign_pids
from mmps_kd.errors import UserError
from mmps_kd.structures import Annotations, SearchProtocol
from mmps_kd.testing.synthetic import write_dataset

TEST_FILES = 'annotation/test/train_test'

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadPersonSearchAnnotations'),
    dict(type='Resize', scale=(160, 160), keep_ratio=True),
    dict(type='PackPersonSearchInputs'),
]


def build(root: Path, split: str, **more) -> CUHKSYSUDataset:
    return DATASETS.build(dict(type='CUHKSYSUDataset', data_root=str(root), split=split, **more))


def people_of(dataset: CUHKSYSUDataset) -> dict[str, list[tuple]]:
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    return {info['img_name']: [(*person['bbox'], person['pid']) for person in info['instances']] for info in infos}


def test_training_images_are_those_outside_the_pool(cuhk_root: Path):
    dataset = build(cuhk_root, 'train')
    assert people_of(dataset) == {
        's1.jpg': [(1, 2, 11, 22, 0), (30, 2, 40, 22, -1)],  # the box without width is gone
        's2.jpg': [(3, 4, 14, 25, 1), (50, 2, 59, 21, 0)],
        's3.jpg': [(7, 7, 12, 12, -1)],
    }
    # p9 appears in a test image only, and so has no row.
    assert dataset.metainfo['identities'] == ('p7', 'p2')
    assert dataset.metainfo['num_identities'] == 2


def test_the_training_metainfo_is_plain_and_json_can_hold_it(cuhk_root: Path):
    metainfo = build(cuhk_root, 'train').metainfo
    assert metainfo['classes'] == ('person',) and metainfo['dataset_name'] == 'CUHK-SYSU'
    assert json.loads(json.dumps(metainfo))['identities'] == ['p7', 'p2']


def test_test_images_are_all_there_once_with_their_queries(cuhk_root: Path):
    dataset = build(cuhk_root, 'test', test_mode=True)
    assert people_of(dataset) == {
        's4.jpg': [(10, 10, 18, 26, 0), (40, 10, 48, 26, 1)],
        's5.jpg': [(12, 12, 20, 28, 0)],
        's6.jpg': [(14, 14, 22, 30, -1), (60, 14, 68, 30, 1)],
        's7.jpg': [],
    }
    queries = [dataset.get_data_info(i).get('queries') for i in range(4)]
    assert queries[1] is None and queries[3] is None
    np.testing.assert_array_equal(queries[2]['boxes'], np.array([[60, 14, 68, 30]], dtype=np.float32))
    assert queries[2]['boxes'].dtype == np.float32
    assert queries[0]['ids'].tolist() == [0] and queries[2]['ids'].tolist() == [1]


def test_several_queries_of_one_image_stay_together(cuhk_root: Path, write_protocol):
    target = [('s5.jpg', (12, 12, 8, 16))]
    boxes = [('s4.jpg', (10, 10, 8, 16)), ('s6.jpg', (60, 14, 8, 16)), ('s4.jpg', (40, 10, 8, 16))]
    write_protocol(cuhk_root, 100, [(query, target) for query in boxes])
    queries = build(cuhk_root, 'test').get_data_info(0)['queries']
    assert queries['ids'].tolist() == [0, 2]
    assert queries['boxes'].tolist() == [[10, 10, 18, 26], [40, 10, 48, 26]]


def test_the_evaluation_set_is_handed_on_without_a_copy(cuhk_root: Path):
    dataset = build(cuhk_root, 'test', gallery_sizes=[50, 'all'])
    evaluation = dataset.metainfo['evaluation']
    assert list(evaluation.protocols) == ['gallery_50', 'gallery_all']
    assert dataset.metainfo['evaluation'] is evaluation
    assert 'identities' not in dataset.metainfo


def test_samples_come_out_of_the_pipeline(cuhk_root: Path):
    sample = build(cuhk_root, 'train', pipeline=PIPELINE)[1]['data_samples']
    assert sample.gt_instances.pids.tolist() == [1, 0]
    assert sample.gt_instances.bboxes.tensor.tolist() == [[6, 8, 28, 50], [100, 4, 118, 42]]
    sample = build(cuhk_root, 'test', pipeline=PIPELINE, test_mode=True)[2]['data_samples']
    assert sample.query_instances.bboxes.tolist() == [[120, 28, 136, 60]]
    assert sample.query_instances.query_ids.tolist() == [1]
    assert sample.metainfo['img_name'] == 's6.jpg'


def test_the_second_start_reads_the_cache_and_gives_the_same(cuhk_root: Path, monkeypatch: pytest.MonkeyPatch):
    first = build(cuhk_root, 'train')
    monkeypatch.setattr('mmps_kd.datasets.cuhk_sysu.load_mat', None)
    second = build(cuhk_root, 'train')
    assert people_of(second) == people_of(first)
    assert second.metainfo == first.metainfo


def test_a_changed_annotation_file_is_read_again(cuhk_root: Path, write_train):
    assert build(cuhk_root, 'train').metainfo['num_identities'] == 2
    write_train(cuhk_root, [('p1', [('s3.jpg', (7, 7, 5, 5))])])
    assert build(cuhk_root, 'train').metainfo['identities'] == ('p1',)


def test_a_subset_keeps_the_numbers_of_the_identities(cuhk_root: Path):
    dataset = build(cuhk_root, 'train', indices=[1])
    assert people_of(dataset)['s2.jpg'][0][-1] == 1 and dataset.metainfo['num_identities'] == 2


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize(
    ('split', 'name'),
    [
        ('train', 'Images'),
        ('train', 'pool'),
        ('train', 'test/train_test/Train'),
        ('test', 'Images'),
        ('test', 'pool'),
        ('test', 'test/train_test/TestG100'),
    ],
)
@pytest.mark.parametrize(('harm', 'message'), [(Path.unlink, 'no such file'), (_truncate, 'truncated, damaged')])
def test_a_missing_or_truncated_file_is_named(cuhk_root: Path, split: str, name: str, harm, message: str):
    harm(cuhk_root / f'annotation/{name}.mat')
    with pytest.raises(UserError, match=rf'{name}\.mat.*{message}') as caught:
        build(cuhk_root, split)
    assert '\n' not in str(caught.value)


def test_a_file_of_another_nesting_is_named(cuhk_root: Path):
    savemat(cuhk_root / 'annotation/Images.mat', {'Img': np.zeros((3, 4))})
    with pytest.raises(UserError, match=r'Images\.mat is truncated, damaged or not the official file'):
        build(cuhk_root, 'train')


def test_a_protocol_from_elsewhere_is_refused(cuhk_root: Path):
    savemat(cuhk_root / 'annotation/pool.mat', {'pool': np.array([['s4.jpg'], ['s6.jpg']], dtype=object)})
    with pytest.raises(UserError, match='gallery_100 names s5.jpg, which is not among the test images'):
        build(cuhk_root, 'test')


def test_agrees_with_a_reading_image_by_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The nested loops of a plain reader over scipy's structs, on a rendered dataset."""
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'cache'))
    root = tmp_path / 'tiny'
    write_dataset(root, 'cuhk-sysu', 'tiny')
    annotation = root / 'annotation'
    pool = {str(name[0]) for name in loadmat(annotation / 'pool.mat')['pool'].squeeze()}
    expected, names = {}, set()
    for image, _, boxes in loadmat(annotation / 'Images.mat')['Img'].squeeze():
        if str(image[0]) not in pool:
            xywh = [b[0].squeeze().astype(int) for b in boxes[0]]
            expected[str(image[0])] = [[x, y, x + w, y + h, None] for x, y, w, h in xywh if w and h]
    for item in loadmat(annotation / 'test/train_test/Train.mat')['Train'].squeeze():
        name, _, scenes = item[0, 0]
        names.add(str(name[0]))
        for image, box, _ in scenes.reshape(-1):
            x, y, w, h = box.squeeze().astype(int)
            row = next(row for row in expected[str(image[0])] if row[:4] == [x, y, x + w, y + h])
            row[4] = str(name[0])
    dataset = build(root, 'train', filter_cfg=dict(filter_empty_gt=False))
    identities = dataset.metainfo['identities']
    assert set(identities) == names
    found = {
        image: [[*box, None if pid < 0 else identities[pid]] for *box, pid in rows]
        for image, rows in people_of(dataset).items()
    }
    assert found == expected
    assert len(build(root, 'test')) == len(pool)


def test_a_dataset_can_be_sent_to_workers(cuhk_root: Path):
    dataset = pickle.loads(pickle.dumps(build(cuhk_root, 'test')))
    assert len(dataset) == 4 and dataset.metainfo['evaluation'].protocols['gallery_100'].num_queries == 2


def test_cuhk_sysu_names_nothing_outside_its_folder(cuhk_root: Path, write_train: Callable, write_protocol: Callable):
    name, inside = '../../secret.jpg', ('s5.jpg', (12, 12, 8, 16))
    write_train(cuhk_root, [('p1', [(name, (1, 2, 3, 4))])])
    with pytest.raises(UserError, match=rf'Train\.mat names {name}, which Images\.mat does not list'):
        CUHKSYSUDataset(data_root=str(cuhk_root))
    for protocol in ([((name, (1, 2, 3, 4)), [inside])], [(inside, [(name, (1, 2, 3, 4))])]):
        write_protocol(cuhk_root, 100, protocol)
        with pytest.raises(UserError, match=rf'TestG100\.mat names {name}, which Images\.mat does not list'):
            CUHKSYSUDataset(data_root=str(cuhk_root), split='test')
    write_protocol(cuhk_root, 100, [(inside, [('s4.jpg', (40, 10, 8, 16)), (name,)])])
    with pytest.raises(UserError, match=rf'protocol gallery_100 names {name}, which is not among the test images'):
        CUHKSYSUDataset(data_root=str(cuhk_root), split='test')
    image = np.zeros((1, 1), dtype=[('imname', object), ('box', object)])
    image[0, 0] = (name, np.zeros((1, 0)))
    savemat(cuhk_root / 'annotation/Images.mat', {'Img': image})
    with pytest.raises(UserError, match=rf"Images\.mat names '{name}': names are relative"):
        CUHKSYSUDataset(data_root=str(cuhk_root))


# Identities by box

UNLABELLED = Annotations(
    image_names=np.array(['b', 'a']),
    num_boxes=np.array([3, 1]),
    boxes=np.array([[0, 0, 2, 2], [1, 1, 4, 5], [1, 1, 4, 5], [0, 0, 2, 2]], dtype=np.float64),
    pids=np.full(4, -1),
)


def match(*appearances: tuple) -> list[int]:
    names, boxes, pids = (np.array(column) for column in zip(*appearances, strict=True))
    return assign_pids(UNLABELLED, names, boxes.astype(np.float64), pids, 'Train.mat').pids.tolist()


def test_the_box_is_looked_up_in_its_own_image():
    assert match(('a', [0, 0, 2, 2], 7)) == [-1, -1, -1, 7]


def test_the_first_of_equal_boxes_gets_the_identity():
    assert match(('b', [1, 1, 4, 5], 3), ('b', [0, 0, 2, 2], 0)) == [0, 3, -1, -1]


def test_a_box_that_is_not_there_is_ignored_and_counted(caplog: pytest.LogCaptureFixture):
    MMLogger.get_instance('unmatched').addHandler(caplog.handler)
    assert match(('b', [1, 1, 4, 6], 3), ('a', [1, 1, 4, 5], 4), ('a', [0, 0, 2, 2], 5)) == [-1, -1, -1, 5]
    assert 'Train.mat: 2 of 3 boxes are not in Images.mat and are ignored' in caplog.text
    assert 'first [1.0, 1.0, 4.0, 6.0] (x1, y1, x2, y2) in b' in caplog.text


def test_an_image_that_is_not_there_is_an_error():
    with pytest.raises(UserError, match=r'Train\.mat names c, which Images\.mat does not list'):
        match(('c', [0, 0, 2, 2], 0))


def test_agrees_with_a_search_box_by_box():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 6, 20)
    boxes = rng.integers(0, 3, (counts.sum(), 4)).astype(np.float64)
    annotations = Annotations(np.array([f's{i}' for i in range(20)]), counts, boxes, np.full(len(boxes), -1))
    images, wanted, pids = rng.integers(0, 20, 200), rng.integers(0, 3, (200, 4)).astype(np.float64), np.arange(200)
    expected = annotations.pids.copy()
    for image, box, pid in zip(images, wanted, pids, strict=True):
        for i in np.flatnonzero(annotations.image_of_box == image):
            if (boxes[i] == box).all():
                expected[i] = pid
                break
    assert (expected >= 0).any()
    got = assign_pids(annotations, annotations.image_names[images], wanted, pids, 'x').pids
    np.testing.assert_array_equal(got, expected)


# Protocols


def galleries(protocol: SearchProtocol) -> list[list[str]]:
    names = protocol.gallery_images[protocol.entries]
    return [names[a:b].tolist() for a, b in zip(protocol.offsets[:-1], protocol.offsets[1:], strict=True)]


def truths(protocol: SearchProtocol) -> list[list[tuple]]:
    names = protocol.gallery_images[protocol.truth_images].tolist()
    rows = list(zip(names, map(tuple, protocol.truth_boxes.tolist()), strict=True))
    return [rows[a:b] for a, b in zip(protocol.truth_offsets[:-1], protocol.truth_offsets[1:], strict=True)]


def test_the_gallery_is_as_listed(cuhk_root: Path):
    protocol = load_cuhk_sysu_evaluation(cuhk_root).protocols['gallery_100']
    assert protocol.query_images.tolist() == ['s4.jpg', 's6.jpg']
    np.testing.assert_array_equal(protocol.query_boxes, [[10, 10, 18, 26], [60, 14, 68, 30]])
    assert protocol.query_pids.tolist() == [0, 1]
    # s4.jpg stands twice, and the second query's own image is listed.
    assert galleries(protocol) == [['s5.jpg', 's6.jpg', 's7.jpg'], ['s4.jpg', 's4.jpg', 's6.jpg']]
    assert truths(protocol) == [[('s5.jpg', (12, 12, 20, 28))], [('s4.jpg', (40, 10, 48, 26))] * 2]


def test_all_boxes_of_the_test_images_are_the_ground_truth(cuhk_root: Path):
    truth = load_cuhk_sysu_evaluation(cuhk_root).ground_truth
    assert truth.image_names.tolist() == ['s4.jpg', 's5.jpg', 's6.jpg', 's7.jpg']
    assert truth.num_boxes.tolist() == [2, 1, 2, 0]
    assert truth.labelled.tolist() == [True, True, True, False, True]


def test_the_protocol_file_alone_is_enough(cuhk_root: Path, write_protocol, tmp_path: Path):
    write_protocol(tmp_path / 'alone', 100)
    evaluation = load_cuhk_sysu_evaluation(tmp_path / 'alone')
    assert evaluation.ground_truth is None
    expected = load_cuhk_sysu_evaluation(cuhk_root).protocols['gallery_100']
    assert galleries(evaluation.protocols['gallery_100']) == galleries(expected)


def test_sizes_keep_the_order_asked_for(cuhk_root: Path):
    assert list(load_cuhk_sysu_evaluation(cuhk_root, (100, 'all', 50)).protocols) == [
        'gallery_100',
        'gallery_all',
        'gallery_50',
    ]


@pytest.mark.parametrize('sizes', [('all',), (100, 'all')])
def test_the_full_set_adds_all_other_test_images_but_the_own(cuhk_root: Path, sizes: tuple):
    evaluation = load_cuhk_sysu_evaluation(cuhk_root, sizes)
    whole = evaluation.protocols['gallery_all']
    # The first query's own s4.jpg stays out; the second query's own s6.jpg is listed and stays.
    assert galleries(whole) == [['s5.jpg', 's6.jpg', 's7.jpg'], ['s4.jpg', 's4.jpg', 's6.jpg', 's5.jpg', 's7.jpg']]
    assert truths(whole) == truths(load_cuhk_sysu_evaluation(cuhk_root).protocols['gallery_100'])


def test_a_missing_size_names_those_that_there_are(cuhk_root: Path):
    with pytest.raises(UserError, match=r'TestG500\.mat: no such file; .* \[50, 100\]'):
        load_cuhk_sysu_evaluation(cuhk_root, (500,))


def test_no_protocol_at_all(tmp_path: Path):
    with pytest.raises(UserError, match=r'no annotation/test/train_test/TestG\*\.mat'):
        load_cuhk_sysu_evaluation(tmp_path, ('all',))
    with pytest.raises(UserError, match=r'TestG100\.mat: no such file; check data_root'):
        load_cuhk_sysu_evaluation(tmp_path / 'nowhere')


def test_sizes_with_other_queries_are_refused(cuhk_root: Path, write_protocol):
    write_protocol(cuhk_root, 50, [(('s4.jpg', (40, 10, 8, 16)), [('s5.jpg', (12, 12, 8, 16))])])
    with pytest.raises(UserError, match=r'TestG50\.mat has other queries'):
        load_cuhk_sysu_evaluation(cuhk_root, (100, 50))


def test_a_query_absent_from_its_gallery_is_named(cuhk_root: Path, write_protocol):
    write_protocol(
        cuhk_root,
        100,
        [
            (('s4.jpg', (10, 10, 8, 16)), [('s5.jpg', (12, 12, 8, 16))]),
            (('s6.jpg', (60, 14, 8, 16)), [('s4.jpg',), ('s5.jpg',)]),
        ],
    )
    with pytest.raises(UserError, match=r'TestG100\.mat: query absent .* 1 of 2 .* query 1 \(pid 1 in s6\.jpg\)'):
        load_cuhk_sysu_evaluation(cuhk_root)


@pytest.mark.parametrize('part', [0.3, 0.95])
def test_a_truncated_protocol_is_one_line(cuhk_root: Path, part: float):
    path = cuhk_root / TEST_FILES / 'TestG100.mat'
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(UserError, match=r'TestG100\.mat is truncated'):
        load_cuhk_sysu_evaluation(cuhk_root)


def test_the_real_protocol(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'cache'))
    folder = tmp_path / TEST_FILES
    folder.mkdir(parents=True)
    (folder / 'TestG100.mat').symlink_to(shared_data / 'TestG100.mat')
    protocol = load_cuhk_sysu_evaluation(tmp_path).protocols['gallery_100']
    assert protocol.num_queries == 2900 and len(protocol.gallery_images) == 6978
    listed, found = galleries(protocol), truths(protocol)
    assert sum(len(set(names)) < len(names) for names in listed) == 4
    assert sum(query in names for query, names in zip(protocol.query_images, listed, strict=True)) == 2
    for q, item in enumerate(loadmat(shared_data / 'TestG100.mat')['TestG100'].reshape(-1)):
        gallery = item['Gallery'].reshape(-1)
        assert listed[q] == [name.item() for name in gallery['imname']]
        boxes = [(name.item(), xywh[0].astype(int)) for name, xywh, _ in gallery if xywh.size]
        assert found[q] == [(name, (x, y, x + w, y + h)) for name, (x, y, w, h) in boxes]
