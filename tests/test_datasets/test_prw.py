from pathlib import Path

import numpy as np
import pytest
from mmdet.registry import DATASETS
from scipy.io import loadmat, savemat

from mmps_kd.datasets import PRWDataset
from mmps_kd.datasets.synthetic import write_dataset
from mmps_kd.errors import UserError


def build(root: Path, split: str, **more) -> PRWDataset:
    return DATASETS.build(dict(type='PRWDataset', data_root=str(root), split=split, **more))


def people_of(dataset: PRWDataset) -> dict[str, list[tuple]]:
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    return {info['img_name']: [(*person['bbox'], person['pid']) for person in info['instances']] for info in infos}


def test_identities_are_numbered_in_the_order_of_their_ids(prw_root: Path):
    dataset = build(prw_root, 'train')
    assert dataset.metainfo['identities'] == (5, 932) and dataset.metainfo['num_identities'] == 2
    assert people_of(dataset) == {
        'c1s1_000001.jpg': [(1, 2, 11, 22, 1), (30, 2, 40, 22, -1)],
        # 3.6 + 11.5 and 4.5 + 21 are cut to 15 and 25; x = -1.5 is set to 0 before the width is added.
        'c2s1_000002.jpg': [(3, 4, 15, 25, 0), (0, 4, 11, 25, 1)],
    }


def test_test_frames_keep_their_ids_and_carry_the_queries(prw_root: Path):
    dataset = build(prw_root, 'test', test_mode=True)
    assert [len(rows) for rows in people_of(dataset).values()] == [2, 2, 3, 0]
    assert [row[-1] for row in people_of(dataset)['c3s1_000011.jpg']] == [8, -1, 7]
    info = dataset.get_data_info(2)
    assert info['queries']['ids'].tolist() == [1] and info['queries']['boxes'].tolist() == [[14, 14, 22, 30]]


def test_query_list_and_cross_camera_are_options(prw_root: Path):
    (prw_root / 'mini.txt').write_text('8 14 14 8 16 c3s1_000011\n')
    evaluation = build(prw_root, 'test', query_info='mini.txt', cross_camera=True).metainfo['evaluation']
    protocol = evaluation.protocols['prw_cross_camera']
    assert protocol.query_pids.tolist() == [8] and protocol.entries.tolist() == [0, 1]


@pytest.mark.parametrize(
    ('split', 'name'),
    [('train', 'frame_train.mat'), ('test', 'frame_test.mat'), ('train', 'annotations/c2s1_000002.jpg.mat')],
)
def test_a_missing_or_truncated_file_is_named(prw_root: Path, split: str, name: str):
    path = prw_root / name
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(UserError, match=rf'{name} is truncated, damaged'):
        build(prw_root, split)
    path.unlink()
    with pytest.raises(UserError, match=rf'{name}: no such file'):
        build(prw_root, split)


def test_another_key_is_named(prw_root: Path):
    savemat(prw_root / 'annotations/c2s1_000002.jpg.mat', {'boxes': np.zeros((1, 5))})
    with pytest.raises(UserError, match=r'c2s1_000002\.jpg\.mat has no variable box_new or anno_file or anno_previous'):
        build(prw_root, 'train')


def test_a_table_of_another_width_is_named(prw_root: Path):
    savemat(prw_root / 'annotations/c2s1_000002.jpg.mat', {'box_new': np.zeros((2, 6))})
    with pytest.raises(UserError, match=r'c2s1_000002\.jpg\.mat is truncated, damaged or not the official file'):
        build(prw_root, 'train')


def test_a_changed_frame_is_read_again(prw_root: Path):
    assert build(prw_root, 'train').metainfo['num_identities'] == 2
    savemat(prw_root / 'annotations/c2s1_000002.jpg.mat', {'box_new': np.array([[6, 1, 1, 5, 5.0]])})
    assert build(prw_root, 'train').metainfo['identities'] == (6, 932)


def test_the_json_stands_in_for_absent_matlab_files(shared_data: Path, tmp_path: Path):
    (tmp_path / 'prw_train_pid.json').symlink_to(shared_data / 'prw_train_pid.json')
    with pytest.raises(UserError, match=r'frames lacks 5704 of the 5704 images .* first c1s1_000151\.jpg'):
        build(tmp_path, 'train')


def test_agrees_with_a_reading_frame_by_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'cache'))
    root = tmp_path / 'tiny'
    write_dataset(root, 'prw', 'tiny')
    dataset = build(root, 'train', filter_cfg=dict(filter_empty_gt=False))
    identities, expected = dataset.metainfo['identities'], {}
    for frame in loadmat(root / 'frame_train.mat')['img_index_train']:
        name = frame[0][0] + '.jpg'
        content = loadmat(root / f'annotations/{name}.mat')
        (key,) = {'box_new', 'anno_file', 'anno_previous'} & content.keys()
        rows = [(int(pid), *map(float, xywh)) for pid, *xywh in content[key]]
        expected[name] = [(int(x), int(y), int(x + w), int(y + h), pid) for pid, x, y, w, h in rows]
    found = {
        name: [(*box, -2 if pid < 0 else identities[pid]) for *box, pid in rows]
        for name, rows in people_of(dataset).items()
    }
    assert found == expected
    assert build(root, 'test').metainfo['evaluation'].protocols['prw'].num_queries > 0
