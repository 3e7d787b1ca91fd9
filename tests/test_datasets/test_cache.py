import os
from pathlib import Path

import numpy as np
import pytest
from mmengine.logging import MMLogger

from mmps_kd.datasets.cache import cache_folder, cached


class Parser:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, np.ndarray]:
        self.calls += 1
        return dict(names=np.array(['s1.jpg', 'ü.jpg']), boxes=np.arange(8.0).reshape(2, 4), none=np.zeros(0, int))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache/annotations'


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / 'Images.mat'
    path.write_bytes(b'1234')
    return path


def test_the_second_time_nothing_is_parsed_and_the_arrays_are_the_same(source: Path):
    parse = Parser()
    first, second = cached('images', [source], parse), cached('images', [source], parse)
    assert parse.calls == 1
    assert first.keys() == second.keys()
    for key, array in first.items():
        np.testing.assert_array_equal(second[key], array)
        assert second[key].dtype == array.dtype


def test_another_size_or_time_of_a_source_invalidates(source: Path, folder: Path):
    parse = Parser()
    cached('images', [source], parse)
    source.write_bytes(b'12345')
    cached('images', [source], parse)
    os.utime(source, ns=(0, 12345))
    cached('images', [source], parse)
    assert parse.calls == 3
    assert len(list(folder.iterdir())) == 1  # the old state is replaced


def test_sources_of_the_same_name_elsewhere_do_not_collide(source: Path, tmp_path: Path):
    parse = Parser()
    other = tmp_path / 'other/Images.mat'
    other.parent.mkdir()
    os.link(source, other)  # same size, same time
    for path in (source, other, source):
        cached('images', [path], parse)
    assert parse.calls == 2


@pytest.mark.parametrize('damage', [b'', b'PK\x03\x04 not really', b'x' * 500])
def test_a_damaged_file_is_made_anew(source: Path, folder: Path, damage: bytes):
    parse = Parser()
    cached('images', [source], parse)
    (file,) = folder.iterdir()
    content = file.read_bytes()
    for broken in (
        damage,
        content[: len(content) // 2],
        content.replace(b'\x00\x00\x00\x00\x00\x00\xf0?', b'broken !'),
    ):
        file.write_bytes(broken)
        np.testing.assert_array_equal(cached('images', [source], parse)['boxes'], np.arange(8.0).reshape(2, 4))
    assert parse.calls == 4
    cached('images', [source], parse)
    assert parse.calls == 4


def test_a_folder_that_cannot_be_made_only_means_no_caching_and_one_warning(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    MMLogger.get_instance('no-cache').addHandler(caplog.handler)
    (tmp_path / 'file').write_text('in the way')
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'file'))
    parse = Parser()
    for _ in range(2):
        assert cached('images', [source], parse)['names'].tolist() == ['s1.jpg', 'ü.jpg']
    assert parse.calls == 2
    assert caplog.text.count('parsed annotations are not cached') == 1


def test_the_folder_follows_the_environment(monkeypatch):
    monkeypatch.delenv('MMPS_CACHE')
    monkeypatch.setenv('XDG_CACHE_HOME', '/xdg')
    assert cache_folder() == Path('/xdg/mmps_kd/annotations')
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', '/home/x')
    assert cache_folder() == Path('/home/x/.cache/mmps_kd/annotations')
