"""Rows from a teacher's memory and from vectors made elsewhere."""

import numpy as np
import pytest
import torch

from mmps_kd.apis.lut import (
    rows_from_features,
    rows_from_memory,
    unit_rows,
)
from mmps_kd.errors import UserError

KEY = 'roi_head.reid_head.loss_oim.lut'
META = dict(dataset_meta=dict(dataset_name='PRW', identities=(5, 7)))


def test_memory_rows_are_of_unit_length_and_the_rest_left_out():
    checkpoint = dict(state_dict={KEY: torch.tensor([[0.0, 2.0], [-3.0, 4.0], [0.0, 0.0]])}, meta=META)
    rows, metainfo = rows_from_memory(checkpoint, 't.pth')
    assert rows.tolist() == [[0, 1], pytest.approx([-0.6, 0.8])]
    assert metainfo['dataset_name'] == 'PRW'


@pytest.mark.parametrize(
    ('checkpoint', 'message'),
    [
        (dict(state_dict={KEY: torch.tensor([[1.0, 0], [0, 0]])}, meta=META), r'identity 7 \(row 1\).*never written'),
        (dict(state_dict={}, meta=META), 't.pth has 0 OIM tables'),
        (dict(state_dict={KEY: torch.eye(2), 'a.loss_oim.lut': torch.eye(2)}, meta=META), 't.pth has 2 OIM tables'),
        (dict(state_dict={KEY: torch.eye(2)}, meta={}), 't.pth does not say what identities'),
        (dict(state_dict={KEY: torch.eye(2)}, meta=dict(dataset_meta=None)), 't.pth does not say what identities'),
    ],
)
def test_memory_that_gives_no_table(checkpoint, message):
    with pytest.raises(UserError, match=message):
        rows_from_memory(checkpoint, 't.pth')


def test_memory_of_weights_alone_takes_the_identities_of_the_config():
    checkpoint = dict(state_dict={KEY: torch.eye(2)}, meta={})
    rows, metainfo = rows_from_memory(checkpoint, 't.pth', META['dataset_meta'])
    assert rows.tolist() == [[1, 0], [0, 1]]
    assert metainfo['identities'] == (5, 7)
    three = dict(dataset_name='PRW', identities=(5, 7, 9))
    with pytest.raises(UserError, match='has 2 rows where the training set of the config has 3 identities'):
        rows_from_memory(checkpoint, 't.pth', three)


@pytest.mark.parametrize('value', [float('nan'), float('inf'), 0.0])
def test_unit_rows_names_the_identity(value):
    with pytest.raises(UserError, match=r'identity p9 \(row 1\): because'):
        unit_rows(torch.tensor([[1.0, 1.0], [value, 0.0]]), ('p2', 'p9'), 'because')


def write_features(path, features, pids):
    np.savez(path, features=np.array(features), pids=np.array(pids))
    return path


@pytest.mark.parametrize('as_text', [False, True])
def test_features_by_hand(tmp_path, as_text):
    pids = [7, 5, 7]
    path = write_features(
        tmp_path / 'f.npz', [[0, 9.0], [2.0, 0], [0.5, 0]], [str(pid) for pid in pids] if as_text else pids
    )
    # Identity 7: (0, 1) + (1, 0), whatever the lengths were.
    assert rows_from_features(path, (5, 7)).tolist() == [[1, 0], pytest.approx([0.5**0.5, 0.5**0.5])]


def test_features_equal_a_simple_loop(tmp_path):
    rng = np.random.default_rng(0)
    features, pids = rng.normal(size=(40, 6)).astype(np.float32), np.r_[0:5, rng.integers(0, 5, 35)]
    names = tuple(f'p{i}' for i in range(5))
    path = write_features(tmp_path / 'f.npz', features, [names[pid] for pid in pids])
    expected = []
    for pid in range(5):
        total = sum(f / np.linalg.norm(f) for f in features[pids == pid].astype(float))
        expected.append(total / np.linalg.norm(total))
    rows = rows_from_features(path, names)
    assert rows.dtype == torch.float32
    assert rows.numpy() == pytest.approx(np.array(expected), abs=1e-6)


@pytest.mark.parametrize(
    ('features', 'pids', 'message'),
    [
        ([[1.0, 0]], [5], r'identity 7 \(row 1\).*has no vector of it'),
        ([[1.0, 0], [-1.0, 0], [0, 1.0]], [7, 7, 5], r'identity 7 \(row 1\).*cancel out'),
        ([[1.0, 0], [1.0, 0]], [5, 8], 'names identity 8'),
        ([[1.0, 0], [0.0, 0]], [5, 7], "row 1 of 'features' is zero or not finite"),
        ([[np.nan, 0], [1.0, 0]], [5, 7], "row 0 of 'features' is zero or not finite"),
        ([[1.0, 0]], [5, 7], r'needs .*features.* \(1, 2\) of float64 and \(2,\) of int64'),
        ([[1, 0], [0, 1]], [5, 7], r'needs .* \(2, 2\) of int64'),
        ([[1.0, 0], [0, 1.0]], [5.0, 7.0], r'needs .* \(2,\) of float64'),
    ],
)
def test_wrong_features(tmp_path, features, pids, message):
    with pytest.raises(UserError, match=message):
        rows_from_features(write_features(tmp_path / 'f.npz', features, pids), (5, 7))


def test_features_file_that_is_none(tmp_path):
    path = tmp_path / 'f.npz'
    with pytest.raises(UserError, match=f'no features file {path}'):
        rows_from_features(path, (5, 7))
    np.savez(path, features=np.eye(2))
    with pytest.raises(UserError, match='f.npz is damaged or no npz with'):
        rows_from_features(path, (5, 7))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match='f.npz is damaged or no npz with'):
        rows_from_features(path, (5, 7))
