import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from mmdet.registry import DATASETS
from scipy.io import loadmat, savemat

from mmps_kd.datasets import CUHKSYSUDataset
from mmps_kd.datasets.synthetic import write_dataset
from mmps_kd.errors import UserError

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
    monkeypatch.setattr('mmps_kd.datasets.annotations.cuhk_sysu.load_mat', None)
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
