from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from mmps_kd.datasets.protocols import load_cuhk_sysu_evaluation
from mmps_kd.errors import UserError
from mmps_kd.structures import SearchProtocol

TEST_FILES = 'annotation/test/train_test'


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


def test_everybody_in_the_test_images_is_the_ground_truth(cuhk_root: Path):
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
