from pathlib import Path

import numpy as np
import pytest

from mmps_kd.datasets.protocols import load_prw_evaluation
from mmps_kd.errors import UserError


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


def test_the_real_people_and_the_published_mini_queries(shared_data: Path):
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
