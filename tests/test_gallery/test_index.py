"""What is kept of a gallery's images."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from mmps_kd.errors import UserError
from mmps_kd.evaluation.functional import load_results
from mmps_kd.gallery import Detections, GalleryIndex
from mmps_kd.gallery.index import FEWEST


def people(count, seed=0):
    rng = np.random.default_rng(seed)
    return Detections(*(rng.random((count, *shape), dtype=np.float32) for shape in ((4,), (), (3,))))


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
def test_a_damaged_file_is_refused_and_left_as_it_is(path, content):
    path.write_bytes(content)
    with pytest.raises(UserError, match=f'the gallery index {path} is damaged: .*delete it to run its images again'):
        GalleryIndex(path, 'model')
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    'change',
    [
        dict(img_stamps=None),
        dict(model=None),
        dict(num_dets=np.array([2, 2])),
        dict(num_dets=np.array([4, -1])),
        dict(img_names=np.array(['a', 'a'])),
        dict(img_stamps=np.array(['s'])),
        dict(embeddings=np.zeros((2, 3), np.float32)),
        dict(bboxes=np.zeros((3, 4), np.float32)),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(path, change):
    """Such as the results file of tools/test.py, which has no stamps and no model."""
    index = GalleryIndex(path, 'model')
    index.add('a', '', people(1))
    index.add('b', '', people(2))
    index.save()
    with np.load(path) as file:
        arrays = {**file, **change}
    np.savez(path, **{key: array for key, array in arrays.items() if array is not None})
    with pytest.raises(UserError, match='gallery.npz is no gallery index, or a damaged one'):
        GalleryIndex(path, 'model')


def test_without_a_model_that_of_the_file_is_taken(path):
    with pytest.raises(UserError, match='there is no gallery index .*gallery.npz'):
        GalleryIndex(path)
    GalleryIndex(path, 'model').save()
    index = GalleryIndex(path, 'model')
    index.add('a', '', people(1))
    index.save()
    assert GalleryIndex(path).model == 'model'


def test_removed_images_are_forgotten(path):
    """Images, a video with all of its frames, a folder with what is below it."""
    names = ['/a/1.jpg', '/a/2.jpg', '/a/v.mp4#0', '/a/v.mp4#25', '/b/1.jpg', '/b/c/2.jpg', '/bb/1.jpg', 'array 0']
    index = GalleryIndex(path, 'model')
    for number, name in enumerate(names):
        index.add(name, 's', people(2, number))
    index.save()
    assert index.remove('/a/1.jpg') == ['/a/1.jpg']
    assert '/a/1.jpg' not in index
    assert index.remove(['/a/v.mp4', Path('/b'), 'array 0']) == [*names[2:6], names[7]]
    again = GalleryIndex(path, 'model')
    assert list(index) == list(again) == ['/a/2.jpg', '/bb/1.jpg']
    assert same(again['/bb/1.jpg'], people(2, 6))
    assert not again.has('/a/1.jpg', 's')
    assert load_results(path).image_names.tolist() == ['/a/2.jpg', '/bb/1.jpg']
    assert index.remove(['/a', '/bb']) == ['/a/2.jpg', '/bb/1.jpg']
    assert len(GalleryIndex(path, 'model')) == 0
    index.add('/a/3.jpg', 's', people(1, 9))
    index.save()
    assert same(GalleryIndex(path, 'model')['/a/3.jpg'], people(1, 9))


def test_relative_paths_are_removed_too(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    index = GalleryIndex(path, 'model')
    index.add(f'{path.parent}/x/1.jpg', '', people(1))
    assert index.remove('x/1.jpg') == [f'{path.parent}/x/1.jpg']


def test_removing_what_is_not_there(path):
    index = GalleryIndex(path, 'model')
    index.add('/a/1.jpg', '', people(1))
    with pytest.raises(UserError, match='gallery.npz has no image /a/9.jpg: nothing was removed'):
        index.remove(['/a/1.jpg', '/a/9.jpg'])
    assert list(index) == ['/a/1.jpg']


def test_images_whose_file_is_gone_are_pruned(path):
    folder = path.parent
    index = GalleryIndex(path, 'model')
    for name in ('kept.jpg', 'gone.jpg', 'kept.mp4#3', 'gone.mp4#0', 'gone.mp4#25'):
        (folder / name.partition('#')[0]).touch()
        index.add(f'{folder}/{name}', '', people(1))
    index.add('array 0', '', people(1))
    index.save()
    assert index.prune() == []
    for file in ('gone.jpg', 'gone.mp4'):
        (folder / file).unlink()
    gone = [f'{folder}/{name}' for name in ('gone.jpg', 'gone.mp4#0', 'gone.mp4#25')]
    assert index.prune() == gone
    assert list(GalleryIndex(path, 'model')) == [f'{folder}/kept.jpg', f'{folder}/kept.mp4#3', 'array 0']


def test_two_that_write_one_file_keep_each_others_work(path):
    """What one adds, replaces and removes, the other does not undo."""
    before = GalleryIndex(path, 'model')
    for number in range(4):
        before.add(str(number), 'old', people(2, number))
    before.save()
    one, two = GalleryIndex(path, 'model'), GalleryIndex(path, 'model')
    one.add('of one', 's', people(1, 10))
    one.add('0', 'new', people(3, 11))
    one.remove('1')
    two.add('of two', 's', people(2, 12))
    two.add('2', 'new', people(1, 13))
    two.save()
    expected = {'3': people(2, 3), 'of one': people(1, 10), '0': people(3, 11), 'of two': people(2, 12)}
    expected['2'] = people(1, 13)
    for index in (two, GalleryIndex(path, 'model')):
        assert list(index) == list(expected)
        assert all(same(index[name], detections) for name, detections in expected.items())
    assert index.has('0', 'new')
    assert index.has('3', 'old')
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.slow
def test_processes_that_write_one_file(path):
    def fill(process):
        index = GalleryIndex(path, 'model')
        for number in range(60):
            index.add(f'{process}/{number}', '', people(1, number))
            if number % 5 == 0:
                index.save()
        index.save()

    processes = [multiprocessing.get_context('fork').Process(target=fill, args=(p,)) for p in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    index = GalleryIndex(path, 'model')
    assert set(index) == {f'{p}/{number}' for p in range(4) for number in range(60)}
    assert all(same(index[f'{p}/7'], people(1, 7)) for p in range(4))


def test_a_write_that_fails_can_be_repeated(path, monkeypatch):
    index = GalleryIndex(path, 'model')
    index.add('a', '', people(2, 1))
    index.save()
    index.add('b', '', people(1, 2))
    with monkeypatch.context() as patch:
        patch.setattr(np, 'savez', lambda *args, **arrays: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            index.save()
    index.save()
    again = GalleryIndex(path, 'model')
    assert list(again) == ['a', 'b']
    assert same(again['a'], people(2, 1))
    assert same(again['b'], people(1, 2))


def unit(*degrees):
    angles = np.radians(degrees)
    return np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)


def test_search_orders_by_similarity_then_by_the_listed_images():
    """Equal embeddings, at whatever place of the index, are equally similar."""
    rng = np.random.default_rng(0)
    twin = rng.standard_normal((1, 37), dtype=np.float32)
    index = GalleryIndex(None, 'model')
    for number in range(9):
        rest = rng.standard_normal((number, 37), dtype=np.float32)
        embeddings = np.concatenate([rest, twin]) / 10
        boxes = np.full((number + 1, 4), number, dtype=np.float32)
        index.add(str(number), '', Detections(boxes, np.ones(number + 1, np.float32), embeddings))
    index.add('4', '', Detections(index['4'].boxes, index['4'].scores, index['4'].embeddings))  # now the last one
    names = list('581427')
    for topk in (3, 6):
        found, detections, similarities, count = index.search(twin[0], names, score_thr=0.5, topk=topk)
        assert found == names[:topk]
        assert detections.boxes[:, 0].tolist() == [int(name) for name in found]
        assert len(set(similarities.tolist())) == 1
        assert count == sum(int(name) + 1 for name in names)


def test_search_leaves_out_low_scores_low_similarities_and_other_images():
    index = GalleryIndex(None, 'model')
    scores = np.float32([0.9, 0.4, 0.8])
    index.add('a', '', Detections(np.arange(12, dtype=np.float32).reshape(3, 4), scores, unit(60, 0, 10)))
    index.add('b', '', Detections(np.zeros((1, 4), np.float32), np.ones(1, np.float32), unit(0)))
    index.add('c', '', index['b'][:0])
    found, detections, similarities, count = index.search(unit(0)[0], ['c', 'a', 'x'], score_thr=0.5, topk=9)
    assert found == ['a', 'a']
    assert detections.boxes[:, 0].tolist() == [8, 0]
    assert similarities.tolist() == pytest.approx([np.cos(np.radians(10)), 0.5])
    assert count == 2
    least = index.search(unit(0)[0], ['a'], score_thr=0.5, topk=9, min_similarity=0.6)
    assert (least[0], least[3]) == (['a'], 2)
    none = index.search(unit(0)[0], ['a'], score_thr=0.5, topk=9, min_similarity=0.99)
    assert (none[0], len(none[1]), len(none[2]), none[3]) == ([], 0, 0, 2)
    nobody = index.search(unit(0)[0], ['c'], score_thr=0.5, topk=9)
    assert (nobody[0], len(nobody[1]), nobody[3]) == ([], 0, 0)


def test_another_model_finds_nothing(path):
    index = GalleryIndex(path, 'model')
    index.add('a', '', people(1))
    index.save()
    assert len(GalleryIndex(path, 'another model')) == 0


def test_it_is_saved_now_and_then_without_being_asked(path):
    """The first time after FEWEST images; then ever further apart, so that the writes stay few."""
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


def test_of_two_that_write_one_file_the_lower_threshold_stays(path):
    high, low = (GalleryIndex(path, 'model', 0.5) for _ in range(2))
    low.lower_score_thr(0.2)
    high.add('a', '', people(1))
    high.save()
    low.add('a', '', people(2))
    low.save()  # replaces the file of the higher threshold
    for name in ('b', 'c'):
        high.add(name, '', people(1))
        high.save()  # leaves the file of the lower threshold
    again = GalleryIndex(path, 'model', 0.5)
    assert (list(again), len(again['a']), again.score_thr) == (['a'], 2, 0.2)
    assert (list(high), len(high['a']), high.score_thr) == (['a', 'b', 'c'], 1, 0.5)


def test_removal_reaches_a_file_of_a_lower_threshold(path):
    high, low = (GalleryIndex(path, 'model', 0.5) for _ in range(2))
    low.lower_score_thr(0.2)
    for index, count in ((high, 1), (low, 2)):
        for name in 'ab':
            index.add(name, '', people(count))
        index.save()
    high.remove('a')
    again = GalleryIndex(path, 'model', 0.5)
    assert (list(again), len(again['b']), again.score_thr) == (['b'], 2, 0.2)
    assert list(high) == ['b']


def test_a_file_without_a_threshold_has_that_of_its_model(path):
    index = GalleryIndex(path, 'model')
    index.add('a', '', people(1))
    index.save()
    again = GalleryIndex(path, 'model', 0.5)
    again.lower_score_thr(0.5)
    assert (len(again), again.score_thr) == (1, 0.5)
