"""The table's file: round trip, every refusal by its message, damage."""

import hashlib
import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from mmps_kd.errors import UserError
from mmps_kd.models.distillers import LookUpTable, check_lut, identities_sha256, load_lut, save_lut

IDENTITIES = ('p2', 'p7', 'p9')
META = dict(
    format_version='1',
    level='identity',
    dataset='CUHK-SYSU',
    pids_sha256=identities_sha256(IDENTITIES),
    dim='4',
    source='boxes',
    teacher_config='teacher.py',
    teacher_sha256='ab12',
)


def rows():
    return F.normalize(torch.arange(1.0, 13).reshape(3, 4), dim=1)


def table(**changes):
    texts = {key: value for key, value in META.items() if key not in ('format_version', 'dim')}
    return LookUpTable(**{'rows': rows(), **texts, **changes})


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'lut.safetensors'


def test_round_trip(path):
    save_lut(path, table())
    loaded = load_lut(path)
    assert torch.equal(loaded.rows, rows())
    assert loaded.file == str(path)
    assert {**vars(loaded), 'rows': None} == {**vars(table(file=str(path))), 'rows': None}
    check_lut(loaded, 'CUHK-SYSU', IDENTITIES, 4)


def test_the_file_is_as_documented(path):
    save_lut(path, table())
    length = int.from_bytes(path.read_bytes()[:8], 'little')
    header = json.loads(path.read_bytes()[8 : 8 + length])
    assert header.pop('__metadata__') == META
    assert header == {'lut': dict(dtype='F32', shape=[3, 4], data_offsets=[0, 48])}


def test_hash_of_identities_knows_order_type_and_bounds():
    assert identities_sha256((5, 932)) == hashlib.sha256(b'[5, 932]').hexdigest()
    others = [(932, 5), ('5', '932'), (5932,), ('5, 932',)]
    assert len({identities_sha256(identities) for identities in [(5, 932), *others]}) == 5


def test_missing_file(path):
    with pytest.raises(UserError, match=f'no look-up table {path}'):
        load_lut(path)


@pytest.mark.parametrize('content', [b'', b'no safetensors at all', b'\xff' * 200])
def test_damaged_file(path, content):
    path.write_bytes(content)
    with pytest.raises(UserError, match=f'{path} is damaged'):
        load_lut(path)


def test_truncated_file(path):
    save_lut(path, table())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=f'{path} is damaged'):
        load_lut(path)


@pytest.mark.parametrize('key', [key for key in META if key != 'level'])
def test_missing_metadata(path, key):
    save_file({'lut': rows()}, path, {k: v for k, v in META.items() if k != key})
    with pytest.raises(UserError, match=f'{path} lacks the metadata {key}'):
        load_lut(path)


def test_unknown_version(path):
    save_file({'lut': rows()}, path, {**META, 'format_version': '2'})
    with pytest.raises(UserError, match=f"{path} has format version '2', this release reads 1"):
        load_lut(path)


@pytest.mark.parametrize(
    ('tensors', 'dim', 'found'),
    [
        ({'other': rows()}, '4', 'none'),
        ({'lut': rows().double()}, '4', r'\(3, 4\) of torch.float64'),
        ({'lut': rows()}, '5', r'\(3, 4\) of torch.float32'),
        ({'lut': rows()}, 'four', r'\(3, 4\) of torch.float32'),
        ({'lut': rows()[0]}, '4', r'\(4,\) of torch.float32'),
    ],
)
def test_wrong_tensor(path, tensors, dim, found):
    save_file(tensors, path, {**META, 'dim': dim})
    with pytest.raises(UserError, match=f'{path} needs a float32 tensor .* it has {found}'):
        load_lut(path)


@pytest.mark.parametrize(
    ('value', 'fault'),
    [
        (float('nan'), 'is not finite'),
        (float('inf'), 'is not finite'),
        (0.0, 'is zero'),
        (0.502, 'is not of unit length'),
        (0.498, 'is not of unit length'),
    ],
)
def test_bad_rows_are_named_on_reading_and_never_written(path, value, fault):
    bad = rows()
    bad[1] = value
    save_file({'lut': bad}, path, META)
    with pytest.raises(UserError, match=f'{path}: row 1 {fault}'):
        load_lut(path)
    with pytest.raises(UserError, match=f'row 1 {fault}'):
        save_lut(path, table(rows=bad))


def test_rows_within_the_tolerance_are_taken_as_they_are(path):
    almost = rows() * 1.0009
    save_lut(path, table(rows=almost))
    assert torch.equal(load_lut(path).rows, almost)


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        (('PRW', IDENTITIES, 4), 'a table for CUHK-SYSU, the training set is PRW'),
        (('CUHK-SYSU', IDENTITIES[:2], 4), 'has 3 identities, the training set 2'),
        (('CUHK-SYSU', ('p2', 'p9', 'p7'), 4), 'has other identities'),
        (('CUHK-SYSU', IDENTITIES, 8), 'vectors of size 4, the student embeds in 8: .*projection'),
    ],
)
def test_table_that_does_not_fit(data, message):
    with pytest.raises(UserError, match=f'^my.safetensors.*{message}'):
        check_lut(replace(table(), file='my.safetensors'), *data)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_refused_or_leaves_a_sound_table(path, data):
    save_lut(path, table())
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 2, 20]))])
    try:
        loaded = load_lut(path)
    except UserError as error:
        assert str(path) in str(error)
        assert '\n' not in str(error)
    else:
        assert loaded.rows.shape == (3, 4)
        assert (loaded.rows.norm(dim=1) - 1).abs().max() < 1.1e-3
