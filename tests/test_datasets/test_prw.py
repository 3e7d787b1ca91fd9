from pathlib import Path

import numpy as np
import pytest
from mmdet.registry import DATASETS
from scipy.io import loadmat, savemat

from mmps_kd.datasets import PRWDataset, full_gallery_protocol, load_prw_evaluation
from mmps_kd.errors import UserError
from mmps_kd.structures import Annotations
from mmps_kd.testing.synthetic import write_dataset


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


@pytest.mark.parametrize('name', ['../secret', '/etc/secret', 'c1s1_000001/../../../secret'])
def test_prw_opens_nothing_outside_its_folder(prw_root: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    cells = np.array([[name], ['c2s1_000002']], dtype=object)
    savemat(prw_root / 'frame_train.mat', {'img_index_train': cells})
    monkeypatch.setattr('mmps_kd.datasets.prw.require_file', lambda path: None)
    with pytest.raises(UserError, match=rf"frame_train\.mat names '{name}\.jpg': names are relative"):
        PRWDataset(data_root=str(prw_root))
    (prw_root / 'query_info.txt').write_text(f'7 10 10 8 16 {name}\n')
    with pytest.raises(UserError, match=rf"query_info\.txt names '{name}\.jpg': names are relative"):
        PRWDataset(data_root=str(prw_root), split='test')


# Protocol


def test_all_test_frames_but_the_own_are_searched(prw_root: Path):
    evaluation = load_prw_evaluation(prw_root)
    protocol = evaluation.protocols['prw']
    assert protocol.query_images.tolist() == ['c1s1_000009.jpg', 'c3s1_000011.jpg']
    np.testing.assert_array_equal(protocol.query_boxes, [[10, 10, 18, 26], [14, 14, 22, 30]])  # 10.2 + 7.9 = 18.1
    assert protocol.query_pids.tolist() == [7, 8]
    assert protocol.entries.tolist() == [1, 2, 3, 0, 1, 3]
    assert protocol.truth_images.tolist() == [1, 2, 0]  # person 7 is in frame 1 twice and counts once
    np.testing.assert_array_equal(protocol.truth_boxes, [[12, 12, 20, 28], [30, 14, 38, 30], [40, 10, 48, 26]])
    assert evaluation.ground_truth.num_boxes.tolist() == [2, 2, 3, 0]
    assert evaluation.ground_truth.labelled.tolist() == [True] * 5 + [False, True]


def test_cross_camera_leaves_the_own_camera_out(prw_root: Path):
    protocol = load_prw_evaluation(prw_root, cross_camera=True).protocols['prw_cross_camera']
    assert protocol.entries.tolist() == [2, 3, 0, 1]
    assert protocol.truth_images.tolist() == [2, 0]


def test_another_query_list(prw_root: Path, tmp_path: Path):
    path = tmp_path / 'mini.txt'
    path.write_text('8 40 10 8 16 c1s1_000009.jpg\r\n\r\n')  # with extension, MS-DOS line ends, an empty line
    protocol = load_prw_evaluation(prw_root, path).protocols['prw']
    assert protocol.query_pids.tolist() == [8]
    assert protocol.query_images.tolist() == ['c1s1_000009.jpg']


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('7 10 10 8 c1s1_000009', r'line 2: expected "pid x y w h frame", got "7 10 10 8 c1s1_000009"'),
        ('7 10 10 8 x c1s1_000009', 'line 2'),
        ('7.5 10 10 8 16 c1s1_000009', 'line 2'),
        ('7 10 10 8 16 c1s1_000001', r'c1s1_000001\.jpg is not among the test images'),
        ('932 10 10 8 16 c1s1_000009', r'absent from the gallery: 1 of 2 .* query 1 \(pid 932 in c1s1_000009\.jpg\)'),
    ],
)
def test_a_wrong_query_is_named(prw_root: Path, tmp_path: Path, line: str, message: str):
    path = tmp_path / 'mini.txt'
    path.write_text(f'8 40 10 8 16 c1s1_000009\n{line}\n')
    with pytest.raises(UserError, match=r'mini\.txt.*' + message):
        load_prw_evaluation(prw_root, path)


def test_an_empty_query_list_is_an_error(prw_root: Path, tmp_path: Path):
    (tmp_path / 'mini.txt').write_text('\n')
    with pytest.raises(UserError, match=r'mini\.txt lists no query'):
        load_prw_evaluation(prw_root, tmp_path / 'mini.txt')


def test_a_missing_query_list_is_named(prw_root: Path):
    (prw_root / 'query_info.txt').unlink()
    with pytest.raises(UserError, match=r'query_info\.txt: no such file'):
        load_prw_evaluation(prw_root)


def test_the_real_annotations_and_the_published_mini_queries(shared_data: Path):
    evaluation = load_prw_evaluation(shared_data, shared_data / 'prwmini_query_info.txt')
    protocol = evaluation.protocols['prw']
    assert protocol.num_queries == 30
    assert np.diff(protocol.offsets).tolist() == [6111] * 30
    assert len(evaluation.ground_truth.boxes) == 25062 and evaluation.ground_truth.labelled.sum() == 25062 - 5935
    own = protocol.gallery_images.tolist().index(protocol.query_images[0])
    assert own not in protocol.entries[:6111]


def test_absent_queries_can_be_left_out(prw_root: Path, tmp_path: Path):
    path = tmp_path / 'mini.txt'
    path.write_text('932 10 10 8 16 c1s1_000009\n8 40 10 8 16 c1s1_000009\n')
    evaluation = load_prw_evaluation(prw_root, path, on_absent_query='skip')
    assert evaluation.main.query_pids.tolist() == [8] and evaluation.num_absent == 1


def random_annotations(seed: int) -> Annotations:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 5, 30)
    total = counts.sum()
    boxes = np.cumsum(rng.integers(0, 4, (total, 2, 2)), axis=1).reshape(total, 4).astype(np.float64)  # some empty
    return Annotations(np.array([f'{i}.jpg' for i in range(30)]), counts, boxes, rng.integers(-1, 6, total))


def brute_force(annotations: Annotations, image: str, pid: int, cameras: np.ndarray | None) -> tuple[list, list]:
    own = annotations.image_names.tolist().index(image)
    gallery, truth, box = [], [], 0
    for i, count in enumerate(annotations.num_boxes):
        rows = range(box, box + count)
        box += count
        if i == own or (cameras is not None and cameras[i] == cameras[own]):
            continue
        gallery.append(i)
        for row in rows:
            x1, y1, x2, y2 = annotations.boxes[row]
            if annotations.pids[row] == pid and x2 > x1 and y2 > y1:
                truth.append((i, x1, y1, x2, y2))
                break
    return gallery, truth


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('by_camera', [False, True])
def test_agrees_with_a_loop_over_images_and_boxes(seed: int, by_camera: bool):
    annotations = random_annotations(seed)
    cameras = np.arange(30) % 3 if by_camera else None
    images, pids = annotations.image_names[[3, 3, 17, 20]], np.array([0, 1, 2, 5])
    boxes = np.arange(16.0).reshape(4, 4)
    protocol = full_gallery_protocol(annotations, images, boxes, pids, 'queries', cameras)
    np.testing.assert_array_equal(protocol.query_boxes, boxes)
    for q in range(4):
        gallery, truth = brute_force(annotations, images[q], pids[q], cameras)
        assert protocol.entries[protocol.offsets[q] : protocol.offsets[q + 1]].tolist() == gallery
        rows = slice(protocol.truth_offsets[q], protocol.truth_offsets[q + 1])
        found = np.column_stack([protocol.truth_images[rows], protocol.truth_boxes[rows]])
        assert [tuple(row) for row in found.tolist()] == truth


def test_an_unlabelled_box_is_no_true_box():
    annotations = Annotations(
        np.array(['a', 'b']), np.array([1, 1]), np.array([[0, 0, 2, 2.0]] * 2), np.array([-1, -1])
    )
    with pytest.raises(UserError, match=r'query\.txt: query absent from the gallery.*pid -1 in a'):
        full_gallery_protocol(annotations, np.array(['a']), np.zeros((1, 4)), np.array([-1]), 'query.txt')


def test_a_query_image_must_be_a_test_image():
    annotations = random_annotations(0)
    with pytest.raises(UserError, match=r'query\.txt: query image x\.jpg is not among the test images'):
        full_gallery_protocol(annotations, np.array(['x.jpg']), np.zeros((1, 4)), np.array([1]), 'query.txt')
