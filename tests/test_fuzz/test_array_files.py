"""Mutated files of arrays and tensors: results and features (npz), tables (safetensors), checkpoints (pth), caches."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from mmps_kd.apis.lut import rows_from_features, rows_from_memory
from mmps_kd.datasets.cache import cached
from mmps_kd.evaluation.functional import (
    SearchProtocol,
    check_results,
    evaluate_search,
    load_results,
)
from mmps_kd.models.distillers import LookUpTable, load_lut, save_lut
from mmps_kd.models.utils.checkpoint_io import read_checkpoint

ROUNDS = [pytest.param(15, id='some'), pytest.param(150, id='many', marks=pytest.mark.slow)]
ODD_ARRAYS = [
    *(np.zeros(0), np.zeros((0, 4)), np.zeros((2, 0)), np.zeros((2, 5)), np.array(3), np.array('x'), np.ones(3, bool)),
    *(np.full((2, 5), np.nan), np.full((4, 8), np.inf), np.array([-1, 5]), np.array([2**62, 2**62]), np.ones(2, 'c8')),
    *(
        np.array(['a', 'a']),
        np.array(['../x', 'a\nb']),
        np.array([b'x', b'y']),
        np.zeros(2, 'i4,f4'),
        np.ones(2, 'M8[D]'),
    ),
    *(np.array([None, {}]), np.ones((2, 2, 2)), np.array([1, 2], np.uint8), np.full((2, 5), 1e308), np.zeros(2, 'f2')),
]
PROTOCOL = SearchProtocol(
    query_images=np.array(['q.jpg', 'a.jpg']),
    query_boxes=np.array([[0, 0, 9, 9], [1, 1, 8, 8.0]]),
    query_pids=np.array([0, 1]),
    gallery_images=np.array(['a.jpg', 'b.jpg']),
    offsets=np.array([0, 2, 3]),
    entries=np.array([0, 1, 1], np.int32),
    truth_offsets=np.array([0, 1, 2]),
    truth_images=np.array([0, 1], np.int32),
    truth_boxes=np.array([[0, 0, 10, 10], [5, 5, 20, 20.0]]),
)


def write_results(path: Path) -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([[0, 0, 10, 10, 0.9], [5, 5, 20, 20, 0.8], [5, 5, 21, 20, 0.7], [1, 1, 4, 4, 0.6]])
    np.savez(
        path,
        img_names=np.array(['a.jpg', 'b.jpg']),
        num_dets=np.array([2, 2]),
        bboxes=boxes,
        embeddings=rng.normal(size=(4, 8)).astype(np.float32),
        query_embeddings=rng.normal(size=(2, 8)).astype(np.float32),
        query_names=PROTOCOL.query_images,
        query_bboxes=PROTOCOL.query_boxes,
    )


def mutate_arrays(rng: np.random.Generator, content: bytes) -> bytes:
    """A whole npz with odd, absent, transposed, doubled, misplaced or pickled arrays."""
    with np.load(io.BytesIO(content)) as file:
        arrays = dict(file)
    for _ in range(rng.integers(1, 3)):
        key, other = rng.choice(sorted(arrays), 2)
        array = np.atleast_1d(arrays[key])
        odd = ODD_ARRAYS[rng.integers(len(ODD_ARRAYS))]
        choices = [
            *([odd] * 4),
            *(array.T, array[:0], np.concatenate([array] * 2), arrays[other], array[..., None]),
            array[..., :1],
        ]
        arrays[key] = choices[rng.integers(len(choices))]
        if rng.random() < 0.1:
            del arrays[key]
    file = io.BytesIO()
    (np.savez if rng.random() < 0.5 else np.savez_compressed)(file, **arrays)
    return file.getvalue()


def mutate_claims(rng: np.random.Generator, content: bytes) -> bytes:
    """An npz whose headers claim other shapes and types than follow, up to 10^12 entries, all checksums being right."""
    shapes = [(10**12,), (10**6, 10**6), (2**63,), (-1,), (0,), (3, 10**9), (1, 1, 1), ()]
    file = io.BytesIO()
    packed = zipfile.ZIP_DEFLATED if rng.random() < 0.5 else zipfile.ZIP_STORED
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, 'w', packed) as new:
        victim = old.namelist()[rng.integers(len(old.namelist()))]
        for name in old.namelist():
            data = old.read(name)
            if name == victim:
                header = io.BytesIO()
                dtype = ['<f8', '<f4', '<U4', '|O', '<i8', '|V100000', '<U100000000'][rng.integers(7)]
                claim = dict(descr=dtype, fortran_order=False, shape=shapes[rng.integers(len(shapes))])
                np.lib.format.write_array_header_1_0(header, claim)
                data = header.getvalue() + data[-int(rng.integers(1, 64)) :]
            new.writestr(name, data)
    return file.getvalue()


@pytest.mark.parametrize('rounds', ROUNDS)
@pytest.mark.parametrize('mutate', [None, mutate_arrays, mutate_claims], ids=['bytes', 'arrays', 'claims'])
def test_results(mutate: Callable | None, rounds: int, tmp_path: Path, fuzz: Callable):
    def read() -> None:
        results = load_results(path)
        check_results(results, PROTOCOL)
        evaluate_search(results, PROTOCOL)

    path = tmp_path / 'results.npz'
    write_results(path)
    assert fuzz(path, read, rounds, *filter(None, [mutate])) > rounds / 4


@pytest.mark.parametrize('rounds', ROUNDS)
@pytest.mark.parametrize('mutate', [None, mutate_arrays, mutate_claims], ids=['bytes', 'arrays', 'claims'])
def test_features(mutate: Callable | None, rounds: int, tmp_path: Path, fuzz: Callable):
    path = tmp_path / 'features.npz'
    features = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    np.savez(path, features=features, pids=np.array([3, 5, 3, 5]))
    assert fuzz(path, lambda: rows_from_features(path, (3, 5)), rounds, *filter(None, [mutate])) > rounds / 4


@pytest.mark.parametrize('rounds', ROUNDS)
@pytest.mark.parametrize('mutate', [None, mutate_arrays, mutate_claims], ids=['bytes', 'arrays', 'claims'])
def test_a_cache_that_was_meddled_with_is_made_anew(
    mutate: Callable | None, rounds: int, tmp_path: Path, fuzz: Callable, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'cache'))
    source, arrays = tmp_path / 'Images.mat', dict(names=np.array(['a', 'b']), boxes=np.arange(8.0).reshape(2, 4))
    source.touch()

    def read() -> None:
        found = cached('images', [source], lambda: arrays)
        assert found.keys() == arrays.keys()
        assert all(np.array_equal(found[key], arrays[key]) and found[key].dtype == arrays[key].dtype for key in arrays)

    read()
    (path,) = (tmp_path / 'cache/annotations').iterdir()
    assert fuzz(path, read, rounds, *filter(None, [mutate])) == 0


def mutate_table(rng: np.random.Generator, content: bytes) -> bytes:
    """A safetensors file whose header or tensors are odd."""
    size = int.from_bytes(content[:8], 'little')
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    odd = [None, '', '-1', '1e9', '9' * 30, 'x' * 3000, 'a\nb', [], [2**62, 8], [-1], 2**64, 'F64', 'BOOL', '٣']
    for _ in range(rng.integers(1, 3)):
        part = header[['lut', '__metadata__'][rng.integers(2)]]
        key = sorted(part)[rng.integers(len(part))]
        part[key] = odd[rng.integers(len(odd))]
    if rng.random() < 0.3:
        tensors = [
            torch.zeros(3, 8),
            torch.full((3, 8), torch.nan),
            torch.zeros(0, 8),
            torch.zeros(3, 0),
            torch.ones(8),
        ]
        return save({'lut': tensors[rng.integers(5)]}, {k: str(v) for k, v in header['__metadata__'].items()})
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, 'little') + text + data


@pytest.mark.parametrize('rounds', ROUNDS)
@pytest.mark.parametrize('mutate', [None, mutate_table], ids=['bytes', 'header'])
def test_tables(mutate: Callable | None, rounds: int, tmp_path: Path, fuzz: Callable):
    path, rows = tmp_path / 'lut.safetensors', torch.eye(8)[:3]
    save_lut(path, LookUpTable(rows, 'PRW', '0' * 64, 'memory', 'config.py', '1' * 64))
    assert fuzz(path, lambda: load_lut(path), rounds, *filter(None, [mutate])) > rounds / 4


def mutate_checkpoint(rng: np.random.Generator, content: bytes) -> bytes:
    """A whole checkpoint with odd entries, one of them an object."""
    checkpoint = torch.load(io.BytesIO(content), weights_only=True)
    odd = [None, 3, 'x', [], {}, torch.zeros(0), torch.full((3, 8), torch.nan), torch.zeros(2, 2, 2), {'identities': 5}]
    odd += [pickle.PickleBuffer, {'state_dict': {}}, torch.zeros(3, dtype=torch.long), torch.eye(3).to_sparse(), (1,)]
    node = [checkpoint, checkpoint['state_dict'], checkpoint['meta'], checkpoint['meta']['dataset_meta']]
    node = node[rng.integers(4)]
    node[sorted(node)[rng.integers(len(node))]] = odd[rng.integers(len(odd))]
    file = io.BytesIO()
    torch.save(checkpoint, file)
    return file.getvalue()


@pytest.mark.parametrize('rounds', ROUNDS)
@pytest.mark.parametrize('legacy', [False, True], ids=['zip', 'legacy'])
@pytest.mark.parametrize('mutate', [None, mutate_checkpoint], ids=['bytes', 'entries'])
def test_checkpoints(mutate: Callable | None, legacy: bool, rounds: int, tmp_path: Path, fuzz: Callable):
    path = tmp_path / 'epoch_1.pth'
    state = {'roi_head.reid_head.loss_oim.lut': torch.eye(8)[:3], 'backbone.conv1.weight': torch.ones(2, 2)}
    meta = dict(epoch=1, dataset_meta=dict(dataset_name='PRW', identities=(4, 5, 6)))
    checkpoint = dict(state_dict=state, meta=meta)
    torch.save(checkpoint, path, _use_new_zipfile_serialization=not legacy)

    def read() -> None:
        rows_from_memory(read_checkpoint(path), str(path))

    # torch asks for what a pickle claims, without writing to it.
    errors = fuzz(path, read, rounds, *filter(None, [mutate]), may_ask_for_memory=True)
    assert errors > rounds / 10
