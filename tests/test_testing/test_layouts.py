"""The synthetic data sets in the official layouts, as our dataset classes and other codebases read them.

The readers below access the files as those of SeqNet, NAE and GFN do: arrays in the dtype that they are stored in,
``squeeze``, and the last two characters of each query line cut.
"""

import io
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from mmps_kd.datasets import CUHKSYSUDataset, PRWDataset
from mmps_kd.datasets.base_person_search import BasePersonSearchDataset
from mmps_kd.testing.synthetic import cuhk_sysu, mat5, prw
from mmps_kd.testing.synthetic.plan import DatasetSize, ImageRecord, PersonBox, SplitSize

Found = dict[str, list[tuple]]  # (x1, y1, x2, y2, identity) of each person, by image
QUERY = re.compile(r'\d+( -?\d+\.\d{4}){4} c\ds\d_\d{6}')
BOX, FLAG, TEXT, NOTHING = ('number', (1, 4)), ('number', (1, 1)), 'text', ('float64', (1, 0))
# The structure of the real TestG100.mat: the field types that occur in its elements.
REAL_QUERY = {(('imname', TEXT), ('idlocate', BOX), ('ishard', FLAG), ('idname', TEXT))}
REAL_GALLERY = {
    (('imname', TEXT), ('idlocate', BOX), ('ishard', FLAG)),
    (('imname', TEXT), ('idlocate', NOTHING), ('ishard', NOTHING)),
}


def rows(boxes: np.ndarray, pids: np.ndarray) -> list[tuple]:
    return [(*box, pid) for box, pid in zip(boxes.tolist(), pids.tolist(), strict=True)]


def ours(dataset: BasePersonSearchDataset) -> Found:
    """Annotations of a data set, with the annotation files' own identities, in images that contain the boxes."""
    names, found = dataset.metainfo.get('identities'), {}
    for info in map(dataset.get_data_info, range(len(dataset))):
        height, width = cv2.imread(info['img_path']).shape[:2]
        boxes = np.array([person['bbox'] for person in info['instances']])
        assert (width, height) == (160, 120)
        assert (boxes >= 0).all() and (boxes[:, :2] < boxes[:, 2:]).all() and (boxes[:, 2:] <= (width, height)).all()
        found[info['img_name']] = [
            (*person['bbox'], names[person['pid']] if names and person['pid'] >= 0 else person['pid'])
            for person in info['instances']
        ]
    return found


def read_prw(root: Path, split: str) -> Found:
    found = {}
    for cell in loadmat(root / f'frame_{split}.mat')[f'img_index_{split}']:
        name = cell[0][0] + '.jpg'
        mat = loadmat(str(root / 'annotations' / name))  # loadmat adds .mat
        (key,) = {'box_new', 'anno_file', 'anno_previous'} & mat.keys()
        corners, pids = np.clip(mat[key][:, 1:], 0, None), mat[key][:, 0]
        corners[:, 2:] += corners[:, :2]
        found[name] = rows(corners.astype(np.int32), np.where(pids == -2, -1, pids).astype(np.int32))
    return found


def read_prw_queries(root: Path) -> list[tuple]:
    queries = []
    with (root / 'query_info.txt').open('rb') as file:
        for line in file.readlines():
            pid, x, y, w, h, frame = str(line, 'utf-8').split(' ')
            x, y, w, h = map(float, (x, y, w, h))
            corners = np.array([x, y, x + w, y + h]).astype(np.int32).tolist()
            queries.append((frame[:-2] + '.jpg', *corners, int(pid)))
    return queries


def read_cuhk_sysu(root: Path, split: str) -> Found:
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
            idname, appearances, scenes = item[0, 0]
            assert appearances.item() == scenes.size >= 3
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
        boxes[name][:, 2:] += boxes[name][:, :2]
    wanted = test if split == 'test' else set(boxes) - set(test)
    return {name: rows(boxes[name], pids[name]) for name in wanted}


@pytest.mark.parametrize('split', ['train', 'test'])
def test_prw_is_read_alike(prw_tiny, split):
    found = read_prw(prw_tiny, split)
    assert found == ours(PRWDataset(data_root=str(prw_tiny), split=split, filter_cfg={}))
    pids = {row[-1] for boxes in found.values() for row in boxes}
    listed = loadmat(prw_tiny / f'ID_{split}.mat')[{'train': 'ID_train', 'test': 'ID_test2'}[split]]
    assert len(found) == 12 and listed.shape == (1, dict(train=6, test=5)[split])
    assert pids == {-1, *listed[0].tolist()}


def test_prw_ids_start_at_one_with_a_gap_and_mix_the_splits(prw_tiny):
    train, test = (loadmat(prw_tiny / f'ID_{s}.mat')[k][0] for s, k in (('train', 'ID_train'), ('test', 'ID_test2')))
    ids = sorted([*train, *test])
    assert len(set(ids)) == 11 and ids[0] == 1 and ids[-1] == 12
    assert train.max() > test.min() and test.max() > train.min()


def test_prw_queries_are_read_alike(prw_tiny):
    queries = read_prw_queries(prw_tiny)
    found = read_prw(prw_tiny, 'test')
    assert len(queries) == len(set(queries)) == 8 and all(tuple(row) in found[name] for name, *row in queries)
    protocol = PRWDataset(data_root=str(prw_tiny), split='test').metainfo['evaluation'].main
    read = zip(protocol.query_images.tolist(), rows(protocol.query_boxes, protocol.query_pids), strict=True)
    assert [(name, *row) for name, row in read] == queries


def test_prw_boxes_have_each_of_the_three_names_of_the_real_files(prw_tiny):
    keys = {key for path in (prw_tiny / 'annotations').iterdir() for key in loadmat(path) if key[0] != '_'}
    assert keys == {'box_new', 'anno_file', 'anno_previous'}


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
    path = tmp_path / 'queries.txt'
    path.write_bytes(ends.join(written.splitlines()) + last)
    protocol, other = (
        PRWDataset(data_root=str(prw_tiny), split='test', query_info=str(file)).metainfo['evaluation'].main
        for file in ('query_info.txt', path)
    )
    for field, value in vars(protocol).items():
        np.testing.assert_array_equal(value, getattr(other, field))


def test_prw_boxes_are_never_stored_as_small_integers(tmp_path):
    # The box alone in its frame; x + w is more than uint8 holds, which readers compute in the stored dtype.
    split = SplitSize(1, 1, (1, 1))
    boxes = (PersonBox(0, (180, 10, 97, 89), 1.0),)
    records = [ImageRecord(f'c1s{i}_000001.jpg', split, boxes) for i, split in ((1, 'train'), (2, 'test'))]
    prw.write_annotations(tmp_path, records, DatasetSize(480, 360, split, split, 0, (0, 0)), seed=0)
    for record in records:
        stored = loadmat(tmp_path / 'annotations' / f'{record.name}.mat')['box_new']
        assert stored.dtype == np.float64
        stored[:, 3:] += stored[:, 1:3]
        assert stored[0, 1:].astype(int).tolist() == [180, 10, 277, 99]


def test_prw_queries_take_one_box_of_each_camera_first(tmp_path):
    split = SplitSize(5, 1, (5, 5))
    names = ['c1s2_000001', 'c1s2_000026', 'c3s2_000001', 'c1s2_000051', 'c3s2_000026']
    records = [ImageRecord('c1s1_000001.jpg', 'train', (PersonBox(1, (1, 1, 5, 9), 1.0),))]
    records += [ImageRecord(f'{name}.jpg', 'test', (PersonBox(0, (1, 1, 5, 9), 1.0),)) for name in names]
    for count in (1, 2, 3, 4, 5):
        prw.write_annotations(tmp_path, records, DatasetSize(480, 360, split, split, count, (0, 0)), seed=0)
        frames = {line.split()[-1] for line in (tmp_path / 'query_info.txt').read_text().splitlines()}
        assert frames == {names[i] for i in (0, 2, 1, 4, 3)[:count]}


def test_a_prw_camera_films_one_place(prw_tiny):
    # Median of the four frames of each camera: what persons and light leave of the place.
    def background(camera: int, half: int) -> np.ndarray:
        paths = sorted((prw_tiny / 'frames').glob(f'c{camera}s*'))
        assert len(paths) == 4
        images = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(float) for path in paths[half::2]]
        return np.mean([(image - image.mean()) / image.std() for image in images], 0).ravel()

    first, second = ([background(camera, half) for camera in range(1, 7)] for half in (0, 1))
    likeness = np.corrcoef(first, second)[:6, 6:]
    assert likeness.argmax(1).tolist() == list(range(6))


@pytest.mark.parametrize('split', ['train', 'test'])
def test_cuhk_sysu_is_read_alike(cuhk_tiny, split):
    found = read_cuhk_sysu(cuhk_tiny, split)
    dataset = CUHKSYSUDataset(data_root=str(cuhk_tiny), split=split, filter_cfg={}, gallery_sizes=(50,))
    assert found == ours(dataset)
    pids = {row[-1] for boxes in found.values() for row in boxes}
    assert len(found) == 12 and -1 in pids and len(pids) == dict(train=7, test=6)[split]


def test_cuhk_sysu_numbers_are_mixed_over_the_splits(cuhk_tiny):
    train, test = (sorted(int(name[1:-4]) for name in read_cuhk_sysu(cuhk_tiny, split)) for split in ('train', 'test'))
    assert sorted(train + test) == list(range(1, 25))
    assert train[-1] > test[0] and test[-1] > train[0]


@pytest.mark.parametrize('size', [50, 100])
def test_cuhk_sysu_galleries_are_read_alike_and_list_the_images_of_the_person_first(cuhk_tiny, size):
    dataset = CUHKSYSUDataset(data_root=str(cuhk_tiny), split='test', gallery_sizes=(size,))
    protocol = dataset.metainfo['evaluation'].main
    persons = {
        str(name[0]): {str(scene['imname'][0]): scene['idlocate'][0].tolist() for scene in scenes.ravel()}
        for name, _, scenes in loadmat(cuhk_tiny / 'annotation/Person.mat')['Person'].squeeze()
    }
    items = loadmat(cuhk_tiny / f'annotation/test/train_test/TestG{size}.mat')[f'TestG{size}'].squeeze()
    assert len(persons) == 11 and len(items) == 5
    for q, (query, gallery) in enumerate(zip(items['Query'], items['Gallery'], strict=True)):
        name, corners = str(query['imname'][0, 0][0]), query['idlocate'][0, 0][0].astype(np.int32)
        own = dict(persons[str(query['idname'][0, 0][0])])
        assert own.pop(name) == corners.tolist()
        corners[2:] += corners[:2]
        assert name == protocol.query_images[q] and corners.tolist() == protocol.query_boxes[q].tolist()
        listed = [(str(item[0][0]), item[1].ravel().tolist()) for item in gallery.squeeze()]
        assert dict(listed[: len(own)]) == own and all(box == [] for _, box in listed[len(own) :])
        entries = protocol.entries[protocol.offsets[q] : protocol.offsets[q + 1]]
        assert [image for image, _ in listed] == protocol.gallery_images[entries].tolist()
        assert {image for image, _ in listed} == {*read_cuhk_sysu(cuhk_tiny, 'test')} - {name}
        true = [[x, y, x + w, y + h] for x, y, w, h in (box for _, box in listed if box)]
        assert true == protocol.truth_boxes[protocol.truth_offsets[q] : protocol.truth_offsets[q + 1]].tolist()


def field_types(structs: np.ndarray) -> set[tuple]:
    """Combinations of field types of the elements of a struct array of one row."""

    def kind(value: np.ndarray) -> object:
        if value.dtype.kind == 'U':
            return TEXT if value.shape == (1,) else (TEXT, value.shape)
        return ('float64' if value.size == 0 else 'number', value.shape) if value.dtype != object else 'cell'

    assert structs.shape[0] == 1
    return {tuple((name, kind(row[name])) for name in structs.dtype.names) for row in structs.ravel()}


def assert_structure_of_the_real_file(protocol: np.ndarray) -> None:
    assert protocol.shape[0] == 1 and protocol.dtype.names == ('Query', 'Gallery')
    assert all(row['Query'].shape == (1, 1) for row in protocol.ravel())
    assert set().union(*(field_types(row['Query']) for row in protocol.ravel())) == REAL_QUERY
    assert set().union(*(field_types(row['Gallery']) for row in protocol.ravel())) == REAL_GALLERY


@pytest.mark.parametrize('size', [50, 100])
def test_cuhk_sysu_protocols_have_the_structure_of_the_real_file(cuhk_tiny, size):
    path = cuhk_tiny / f'annotation/test/train_test/TestG{size}.mat'
    assert_structure_of_the_real_file(loadmat(path)[f'TestG{size}'])


def test_recorded_structure_is_that_of_the_real_file(shared_data):
    assert_structure_of_the_real_file(loadmat(shared_data / 'TestG100.mat')['TestG100'])


@pytest.mark.parametrize(('test_images', 'sizes'), [(12, {50, 100}), (500, {50, 100}), (501, {50, 100, 500})])
def test_cuhk_sysu_gallery_sizes_are_50_100_and_those_that_fit(tmp_path, test_images, sizes):
    box = PersonBox(0, (1, 1, 5, 9), 0.6)
    records = [ImageRecord(f's{i}.jpg', 'test', (box,) if i <= 2 else ()) for i in range(1, test_images + 1)]
    cuhk_sysu.write_annotations(tmp_path, records, None, seed=0)
    paths = (tmp_path / 'annotation/test/train_test').glob('TestG*.mat')
    assert {int(path.stem.removeprefix('TestG')) for path in paths} == sizes
    gallery = loadmat(tmp_path / 'annotation/test/train_test/TestG50.mat')['TestG50'][0, 0]['Gallery']
    assert gallery.shape == (1, min(50, test_images - 1)) and gallery['ishard'][0, 0].item() == 1


@pytest.mark.parametrize(
    ('values', 'stored'),
    [
        ([[0, 255]], np.uint8),
        ([[0, 256], [3, 4]], np.uint16),
        ([[-2, 8]], np.int16),
        ([[-2, 70000]], np.int32),
        ([[0.5, 1]], np.float64),
        ([[np.nan, np.inf], [1e300, -0.25]], np.float64),
        (np.zeros((1, 0)), np.float64),
    ],
)
def test_numbers_have_the_smallest_type_as_in_matlab(tmp_path, values, stored):
    mat5.save(tmp_path / 'x.mat', [mat5.numbers(np.array(values), 'x')])
    read = loadmat(tmp_path / 'x.mat')['x']
    assert read.dtype == stored
    np.testing.assert_array_equal(read, values)
    assert loadmat(tmp_path / 'x.mat', mat_dtype=True)['x'].dtype == np.float64  # the class is double


def test_nested_structs_equal_those_of_scipy(tmp_path):
    inner = np.empty((1, 2), [('name', object), ('xywh', object)])
    inner[0, 0] = 's1.jpg', np.array([[1, 2, 3, 4]], np.uint8)
    inner[0, 1] = 'long_name_12.jpg', np.zeros((1, 0))
    outer = np.empty((1, 1), [('scene', object)])
    outer[0, 0] = (inner,)
    reference = io.BytesIO()
    savemat(reference, {'x': outer}, do_compression=True)

    values = [mat5.char('s1.jpg'), mat5.numbers(np.array([[1, 2, 3, 4]]))]
    values += [mat5.char('long_name_12.jpg') + mat5.numbers(np.zeros((1, 0)))]  # pieces may be joined
    scene = mat5.structs(('name', 'xywh'), values, (1, 2))
    mat5.save(tmp_path / 'x.mat', mat5.structs(('scene',), scene, (1, 1), 'x'))

    read, expected = loadmat(tmp_path / 'x.mat')['x'], loadmat(reference)['x']
    assert read.dtype == expected.dtype
    for written, scipys in zip(read[0, 0]['scene'].ravel(), expected[0, 0]['scene'].ravel(), strict=True):
        for field in ('name', 'xywh'):
            assert written[field].dtype == scipys[field].dtype
            np.testing.assert_array_equal(written[field], scipys[field])
