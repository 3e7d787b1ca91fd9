from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import loadmat

from mmps_kd.testing.synthetic import write_dataset, writer
from mmps_kd.testing.synthetic.plan import PersonBox
from mmps_kd.testing.synthetic.prw import cameras_in_turn, person_ids


def frames(root: Path, split: str) -> list[str]:
    return [str(name[0][0]) for name in loadmat(root / f'frame_{split}.mat')[f'img_index_{split}']]


def boxes(root: Path, frame: str) -> np.ndarray:
    mat = loadmat(root / 'annotations' / f'{frame}.jpg.mat')
    (key,) = (key for key in mat if not key.startswith('__'))
    return mat[key]


def test_every_frame_has_a_picture_and_boxes_inside_it(prw_tiny):
    names = frames(prw_tiny, 'train') + frames(prw_tiny, 'test')
    assert len(set(names)) == 24
    for name in names:
        height, width = cv2.imread(str(prw_tiny / 'frames' / f'{name}.jpg')).shape[:2]
        people = boxes(prw_tiny, name)
        assert people.dtype == np.float64 and people.shape[1] == 5
        x, y, w, h = np.trunc(people[:, 1:]).T
        assert (x >= 0).all() and (y >= 0).all() and (w > 0).all() and (h > 0).all()
        assert (x + w <= width).all() and (y + h <= height).all()


def test_boxes_come_under_each_of_the_three_names(prw_tiny):
    keys = {key for path in (prw_tiny / 'annotations').iterdir() for key in loadmat(path) if key[0] != '_'}
    assert keys == {'box_new', 'anno_file', 'anno_previous'}


def test_ids_of_the_splits_are_disjoint_and_those_of_the_boxes(prw_tiny):
    train, test = (loadmat(prw_tiny / f'ID_{s}.mat')[k] for s, k in (('train', 'ID_train'), ('test', 'ID_test2')))
    assert train.shape == (1, 6) and test.shape == (1, 5)
    for split, listed in (('train', train), ('test', test)):
        ids = np.concatenate([boxes(prw_tiny, name)[:, 0] for name in frames(prw_tiny, split)])
        assert set(ids) == {-2, *listed[0].tolist()}
    assert not set(train[0]) & set(test[0])


def test_queries_are_annotated_test_boxes(prw_tiny):
    queries = [line.split() for line in (prw_tiny / 'query_info.txt').read_text().splitlines()]
    assert len(queries) == 8
    assert len({tuple(query) for query in queries}) == 8
    for pid, *xywh, frame in queries:
        assert frame in frames(prw_tiny, 'test')
        assert [float(pid), *map(float, xywh)] in boxes(prw_tiny, frame).tolist()


@pytest.mark.parametrize(('count', 'seed'), [(932, 0), (11, 4)])
def test_ids_start_at_one_with_a_gap_and_mix_the_splits(count, seed):
    ids = person_ids(count, seed)
    assert sorted(ids) == list(range(count))
    assert len(set(ids.values())) == count and min(ids.values()) == 1 and max(ids.values()) == count + 1
    train = sorted(ids[i] for i in range(count // 2))
    assert train != list(range(train[0], train[0] + len(train)))


def test_cameras_take_turns():
    names = ['c1s2_000001.jpg', 'c1s2_000026.jpg', 'c3s2_000001.jpg', 'c1s2_000051.jpg', 'c3s2_000026.jpg']
    box = PersonBox(0, (0, 0, 1, 1), 1.0)
    order = [names.index(name) for name, _ in cameras_in_turn([(name, box) for name in names])]
    assert order == [0, 2, 1, 4, 3]


def test_a_camera_films_one_place(tmp_path, monkeypatch):
    places, render = [], writer.render_scene

    def spy(rng, site, *args):
        places.append(site.bit_generator.state['state']['state'])
        return render(rng, site, *args)

    monkeypatch.setattr(writer, 'render_scene', spy)
    write_dataset(tmp_path / 'prw', 'prw', 'tiny')
    assert len(set(places)) == 6
    assert places[:12] == places[:6] * 2 == places[12:]
