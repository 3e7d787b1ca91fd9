"""What other codebases read in the folders we write.

The readers below access the files as those of SeqNet, NAE and GFN do: arrays in the dtype that they are stored in,
``squeeze``, and the last two characters of each query line cut.
"""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from mmps_kd.datasets import CUHKSYSUDataset, PRWDataset, load_cuhk_sysu_evaluation, load_prw_evaluation
from mmps_kd.datasets.base_person_search import BasePersonSearchDataset
from mmps_kd.testing.synthetic import prw
from mmps_kd.testing.synthetic.plan import ImageRecord, PersonBox
from mmps_kd.testing.synthetic.sizes import DatasetSize, SplitSize

People = dict[str, list[tuple]]  # (x1, y1, x2, y2, identity) of each person, by image
QUERY = re.compile(r'\d+( -?\d+\.\d{4}){4} c\ds\d_\d{6}')


def rows(boxes: np.ndarray, pids: np.ndarray) -> list[tuple]:
    return [(*box, pid) for box, pid in zip(boxes.tolist(), pids.tolist(), strict=True)]


def ours(dataset: BasePersonSearchDataset) -> People:
    """People of a dataset, with the annotation files' own identities."""
    names, people = dataset.metainfo.get('identities'), {}
    for info in map(dataset.get_data_info, range(len(dataset))):
        assert Path(info['img_path']).is_file()
        people[info['img_name']] = [
            (*person['bbox'], names[person['pid']] if names and person['pid'] >= 0 else person['pid'])
            for person in info['instances']
        ]
    return people


def read_prw(root: Path, split: str) -> People:
    people = {}
    for cell in loadmat(root / f'frame_{split}.mat')[f'img_index_{split}']:
        name = cell[0][0] + '.jpg'
        assert (root / 'frames' / name).is_file()
        found = loadmat(str(root / 'annotations' / name))  # loadmat adds .mat
        (key,) = {'box_new', 'anno_file', 'anno_previous'} & found.keys()
        corners, pids = np.clip(found[key][:, 1:], 0, None), found[key][:, 0]
        corners[:, 2:] += corners[:, :2]
        people[name] = rows(corners.astype(np.int32), np.where(pids == -2, -1, pids).astype(np.int32))
    return people


def read_prw_queries(root: Path) -> list[tuple]:
    queries = []
    with (root / 'query_info.txt').open('rb') as file:
        for line in file.readlines():
            pid, x, y, w, h, frame = str(line, 'utf-8').split(' ')
            name, (x, y, w, h) = frame[:-2] + '.jpg', map(float, (x, y, w, h))
            assert (root / 'frames' / name).is_file()
            queries.append((name, *np.array([x, y, x + w, y + h]).astype(np.int32).tolist(), int(pid)))
    return queries


def read_cuhk_sysu(root: Path, split: str) -> People:
    folder = root / 'annotation'
    test = [str(name[0]) for name in loadmat(folder / 'pool.mat')['pool'].squeeze()]
    boxes, pids = {}, {}
    for name, _, persons in loadmat(folder / 'Images.mat')['Img'].squeeze():
        xywh = np.asarray([person[0] for person in persons[0]]).reshape(-1, 4)
        assert len(xywh) > 0 and (xywh[:, 2:] > 0).all()
        boxes[str(name[0])], pids[str(name[0])] = xywh.astype(np.int32), np.full(len(xywh), -1, dtype=object)

    def name_person(image: np.ndarray, box: np.ndarray, pid: str | int) -> None:
        (same,) = np.flatnonzero((boxes[str(image[0])] == box.squeeze().astype(np.int32)).all(axis=1))
        pids[str(image[0])][same] = pid

    if split == 'train':
        for item in loadmat(folder / 'test/train_test/Train.mat')['Train'].squeeze():
            idname, _, scenes = item[0, 0]
            for image, box, _ in scenes.squeeze():
                name_person(image, box, str(idname[0]))
    else:
        for pid, item in enumerate(loadmat(folder / 'test/train_test/TestG50.mat')['TestG50'].squeeze()):
            name_person(item['Query'][0, 0][0], item['Query'][0, 0][1], pid)
            for image, box, _ in item['Gallery'].squeeze():
                if box.size == 0:
                    break
                name_person(image, box, pid)
    for name in boxes:
        assert (root / 'Image/SSM' / name).is_file()
        boxes[name][:, 2:] += boxes[name][:, :2]
    wanted = test if split == 'test' else set(boxes) - set(test)
    return {name: rows(boxes[name], pids[name]) for name in wanted}


@pytest.mark.parametrize('split', ['train', 'test'])
def test_prw_is_read_alike(prw_tiny, split):
    people = read_prw(prw_tiny, split)
    assert people == ours(PRWDataset(data_root=str(prw_tiny), split=split, filter_cfg={}))
    assert len(people) == 12 and {row[-1] for found in people.values() for row in found} > {-1}


def test_prw_queries_are_read_alike(prw_tiny):
    queries, protocol = read_prw_queries(prw_tiny), load_prw_evaluation(prw_tiny).protocols['prw']
    people = read_prw(prw_tiny, 'test')
    assert all(tuple(row) in people[name] for name, *row in queries)
    found = zip(protocol.query_images.tolist(), rows(protocol.query_boxes, protocol.query_pids), strict=True)
    assert [(name, *row) for name, row in found] == queries


def test_recorded_form_of_a_query_is_that_of_the_official_list(shared_data):
    lines = (shared_data / 'prwmini_query_info.txt').read_text().splitlines()
    assert len(lines) == 30 and all(QUERY.fullmatch(line) for line in lines)


def test_queries_end_in_two_characters_on_every_line(prw_tiny):
    content = (prw_tiny / 'query_info.txt').read_bytes()
    assert content.endswith(b'\r\n') and content.count(b'\r\n') == content.count(b'\n') == content.count(b'\r') == 8
    assert all(QUERY.fullmatch(line) for line in content.decode().split('\r\n')[:-1])


@pytest.mark.parametrize(('ends', 'last'), [(b'\r\n', b''), (b'\n', b'\n'), (b'\n', b'')])
def test_our_reader_takes_any_line_ends(prw_tiny, tmp_path, ends, last):
    written = (prw_tiny / 'query_info.txt').read_bytes()
    (tmp_path / 'queries.txt').write_bytes(ends.join(written.splitlines()) + last)
    protocol, other = (load_prw_evaluation(prw_tiny, path).main for path in (None, tmp_path / 'queries.txt'))
    for field, value in vars(protocol).items():
        np.testing.assert_array_equal(value, getattr(other, field))


def test_prw_boxes_are_never_stored_as_small_integers(tmp_path):
    # The box alone in its frame; x + w is more than uint8 holds, which readers compute in the stored dtype.
    split = SplitSize(1, 1, (1, 1))
    people = (PersonBox(0, (180, 10, 97, 89), 1.0),)
    records = [ImageRecord(f'c1s{i}_000001.jpg', split, people) for i, split in ((1, 'train'), (2, 'test'))]
    prw.write_annotations(tmp_path, records, DatasetSize(480, 360, split, split, 0, (0, 0)), seed=0)
    for record in records:
        boxes = loadmat(tmp_path / 'annotations' / f'{record.name}.mat')['box_new']
        assert boxes.dtype == np.float64
        boxes[:, 3:] += boxes[:, 1:3]
        assert boxes[0, 1:].astype(int).tolist() == [180, 10, 277, 99]


@pytest.mark.parametrize('split', ['train', 'test'])
def test_cuhk_sysu_is_read_alike(cuhk_tiny, split):
    people = read_cuhk_sysu(cuhk_tiny, split)
    dataset = CUHKSYSUDataset(data_root=str(cuhk_tiny), split=split, filter_cfg={}, gallery_sizes=(50,))
    assert people == ours(dataset)
    assert len(people) == 12 and {row[-1] for found in people.values() for row in found} > {-1}


@pytest.mark.parametrize('size', [50, 100])
def test_cuhk_sysu_galleries_are_read_alike(cuhk_tiny, size):
    protocol = load_cuhk_sysu_evaluation(cuhk_tiny, gallery_sizes=(size,)).main
    items = loadmat(cuhk_tiny / f'annotation/test/train_test/TestG{size}.mat')[f'TestG{size}'].squeeze()
    for q, (query, gallery) in enumerate(zip(items['Query'], items['Gallery'], strict=True)):
        corners = query['idlocate'][0, 0][0].astype(np.int32)
        corners[2:] += corners[:2]
        assert str(query['imname'][0, 0][0]) == protocol.query_images[q]
        assert corners.tolist() == protocol.query_boxes[q].tolist()
        listed, true = [], []
        for item in gallery.squeeze():
            listed.append(str(item[0][0]))
            box = item[1][0].astype(np.int32)
            if box.size > 0:
                box[2:] += box[:2]
                true.append(box.tolist())
        entries = protocol.entries[protocol.offsets[q] : protocol.offsets[q + 1]]
        assert listed == protocol.gallery_images[entries].tolist()
        assert true == protocol.truth_boxes[protocol.truth_offsets[q] : protocol.truth_offsets[q + 1]].tolist()
