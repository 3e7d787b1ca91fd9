"""Writing of npz files; damaged ones are read in tests/test_fuzz."""

import numpy as np
import pytest

from mmps_kd.fileio import read_npz, write_npz


def test_what_is_written_is_read(tmp_path):
    arrays = dict(names=np.array(['a', 'ü']), numbers=np.arange(6.0).reshape(2, 3), empty=np.zeros((0, 4)))
    write_npz(tmp_path / 'a.npz', **arrays)
    read = read_npz(tmp_path / 'a.npz')
    assert read.keys() == arrays.keys()
    assert all(np.array_equal(read[key], arrays[key]) and read[key].dtype == arrays[key].dtype for key in arrays)
    assert [path.name for path in tmp_path.iterdir()] == ['a.npz']


def test_an_interruption_leaves_the_older_file(tmp_path, monkeypatch):
    path = tmp_path / 'a.npz'
    write_npz(path, x=np.arange(3))

    def stop(file, **arrays):
        file.write(b'half')
        raise KeyboardInterrupt

    monkeypatch.setattr(np, 'savez', stop)
    with pytest.raises(KeyboardInterrupt):
        write_npz(path, x=np.arange(4))
    assert read_npz(path)['x'].tolist() == [0, 1, 2]
