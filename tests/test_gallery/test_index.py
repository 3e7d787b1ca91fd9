"""What is kept of a gallery's scenes."""

import numpy as np
import pytest

from mmps_kd.evaluation.functional import load_results
from mmps_kd.gallery import GalleryIndex, People
from mmps_kd.gallery.index import FEWEST


def people(count, seed=0):
    rng = np.random.default_rng(seed)
    return People(*(rng.random((count, *shape), dtype=np.float32) for shape in ((4,), (), (3,))))


def same(one, two):
    return all(np.array_equal(getattr(one, f), getattr(two, f)) for f in ('boxes', 'scores', 'embeddings'))


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'gallery.npz'


def test_what_was_saved_is_read_again(path):
    index = GalleryIndex(path, 'model')
    found = {'/a/1.jpg': people(2, 1), '/a/2.jpg': people(0), '/b/v.mp4#7': people(3, 2)}
    for name, item in found.items():
        index.add(name, f'stamp of {name}', item)
    assert not path.exists()
    index.save()
    again = GalleryIndex(path, 'model')
    assert len(again) == 3
    assert all(again.has(name, f'stamp of {name}') and same(again[name], item) for name, item in found.items())
    assert not again.has('/a/1.jpg', 'another stamp')
    assert not again.has('/a/3.jpg', 'stamp of /a/3.jpg')


def test_a_changed_scene_is_replaced(path):
    index = GalleryIndex(path, 'model')
    index.add('a', 'old', people(2, 1))
    index.add('a', 'new', people(1, 2))
    index.save()
    again = GalleryIndex(path, 'model')
    assert len(again) == 1
    assert not again.has('a', 'old')
    assert same(again['a'], people(1, 2))


def test_the_file_is_in_the_interchange_format(path):
    index = GalleryIndex(path, 'model')
    index.add('1.jpg', '', people(2, 1))
    index.add('2.jpg', '', people(1, 2))
    index.save()
    results = load_results(path)
    assert results.image_names.tolist() == ['1.jpg', '2.jpg']
    assert results.num_dets.tolist() == [2, 1]
    assert np.array_equal(results.boxes[:2], np.column_stack([people(2, 1).boxes, people(2, 1).scores]))
    assert np.array_equal(results.embeddings[2:], people(1, 2).embeddings)
    assert results.query_embeddings.shape == (0, 3)


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04 half a zip'])
def test_a_damaged_file_is_begun_anew(path, content):
    path.write_bytes(content)
    index = GalleryIndex(path, 'model')
    assert len(index) == 0
    index.add('a', '', people(1))
    index.save()
    assert len(GalleryIndex(path, 'model')) == 1


def test_another_model_finds_nothing(path):
    index = GalleryIndex(path, 'model')
    index.add('a', '', people(1))
    index.save()
    assert len(GalleryIndex(path, 'another model')) == 0


def test_it_is_saved_now_and_then_without_being_asked(path):
    """The first time after FEWEST scenes; then ever further apart, so that the writes stay few."""
    index, writes = GalleryIndex(path, 'model'), []
    index.save = lambda: (writes.append(len(index)), GalleryIndex.save(index))
    for number in range(2000):
        index.add(str(number), '', people(1, number))
    assert writes[0] == FEWEST
    assert len(writes) < 20
    assert np.diff(writes).max() <= 500
    assert len(GalleryIndex(path, 'model')) == writes[-1]


def test_without_a_file_nothing_is_written(tmp_path):
    index = GalleryIndex(None, 'model')
    for number in range(FEWEST + 1):
        index.add(str(number), '', people(1))
    index.save()
    assert len(index) == FEWEST + 1
    assert list(tmp_path.iterdir()) == []


def test_a_lower_threshold_forgets_the_scenes(path):
    index = GalleryIndex(path, 'model', 0.5)
    index.add('a', '', people(1))
    index.save()
    assert load_results(path).score_thr == 0.5
    index.lower_score_thr(0.7)
    assert (len(index), index.score_thr) == (1, 0.5)
    index.lower_score_thr(0.2)
    assert (len(index), index.score_thr) == (0, 0.2)
    index.add('a', '', people(2))
    index.save()
    again = GalleryIndex(path, 'model', 0.5)
    assert (len(again['a']), again.score_thr) == (2, 0.2)


def test_a_file_without_a_threshold_has_that_of_its_model(path):
    index = GalleryIndex(path, 'model')
    index.add('a', '', people(1))
    index.save()
    again = GalleryIndex(path, 'model', 0.5)
    again.lower_score_thr(0.5)
    assert (len(again), again.score_thr) == (1, 0.5)
