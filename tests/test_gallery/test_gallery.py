"""A gallery in memory, in a folder and in an object store: the same tests for all."""

import csv
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from mmps_kd.errors import UserError
from mmps_kd.evaluation.functional import load_results
from mmps_kd.gallery import Detections, Gallery, GalleryImage

DIM = 8


def people(count, seed=0, dim=DIM):
    rng = np.random.default_rng(seed)
    embeddings = rng.standard_normal((count, dim), dtype=np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return Detections(rng.random((count, 4), dtype=np.float32), rng.random(count, dtype=np.float32), embeddings)


def image(name, count=2, seed=0, stamp='s', **more):
    return GalleryImage(name, stamp, people(count, seed), **more)


def same(one, two):
    return all(np.array_equal(getattr(one, f), getattr(two, f)) for f in ('boxes', 'scores', 'embeddings'))


@pytest.fixture
def make(uri):
    """Open the gallery anew, as another process would; single precision, so that numbers can be compared."""

    def make(model='model', **options):
        engine = 'numpy' if uri.endswith('numpy') else 'lancedb'
        return Gallery(uri, model, **dict(dtype='float32', engine=engine) | options)

    return make


def test_what_was_added_is_read_again(make):
    gallery = make()
    images = [image('/a/1.jpg', 2, 1), image('/a/2.jpg', 0), image('/b/v.mp4#7', 3, 2)]
    gallery.add(images)
    again = make(None)
    assert (len(again), again.model, again.dim) == (3, 'model', DIM)
    assert again.images() == ['/a/1.jpg', '/a/2.jpg', '/b/v.mp4#7']
    assert all(same(again[i.name], i.detections) for i in images if len(i.detections))
    assert len(again['/a/2.jpg']) == len(again['/a/9.jpg']) == 0
    assert again.info()['detections'] == again.count() == 5


def test_new_and_changed_images_are_missing(make):
    """An image without detections is remembered, too."""
    make().add([image('a'), image('b', 0)])
    assert make().stamps({'b', 'c', 'a'}) == dict(a='s', b='s')
    assert make().missing(dict(c='s', a='s', b='s')) == ['c']
    assert make().missing(dict(b='other', a='s')) == ['b']
    assert make().missing({str(n): 's' for n in range(6000)} | dict(a='s')) == [str(n) for n in range(6000)]


def test_nobody_in_the_first_images(make):
    gallery = make(dim=DIM)
    gallery.add([image('a', 0)])
    assert make().missing(dict(a='s')) == []
    (hits,) = make().search(people(1).embeddings)
    assert (len(hits), hits.detections.embeddings.shape[0]) == (0, 0)


@pytest.mark.parametrize('count', [0, 1, 5])
def test_an_image_is_replaced_as_a_whole(make, count):
    make().add([image('a', 3, 1), image('b', 2, 2)])
    make().add([image('a', count, 3, stamp='t'), image('c', 1, 4)])
    gallery = make()
    assert same(gallery['a'], people(count, 3)) or count == len(gallery['a']) == 0
    assert same(gallery['b'], people(2, 2))
    assert (len(gallery), gallery.count()) == (3, count + 3)
    assert gallery.missing(dict(a='t', b='s', c='s')) == []


def test_of_an_image_given_twice_the_last_one_stays(make):
    make().add([image('a', 3, 1), image('a', 2, 2, stamp='t')])
    assert same(make()['a'], people(2, 2))
    assert len(make()) == 1


def test_two_that_write_see_each_other(make):
    """What one adds, replaces and removes, the other does not undo."""
    make().add([image(str(n), 2, n) for n in range(4)])
    one, two = make(), make()
    one.add([image('of one', 1, 10), image('0', 3, 11, stamp='new')])
    one.remove('1')
    two.add([image('of two', 2, 12), image('2', 1, 13)])
    expected = {'0': people(3, 11), '2': people(1, 13), '3': people(2, 3)}
    expected |= {'of one': people(1, 10), 'of two': people(2, 12)}
    for gallery in (one, two, make()):
        assert gallery.images() == list(expected)
        assert all(same(gallery[name], detections) for name, detections in expected.items())
    one.optimize()
    two.add([image('last', 1, 14)])
    for gallery in (one, two, make()):
        assert gallery.images() == [*sorted([*expected, 'last'])]
        assert all(same(gallery[name], detections) for name, detections in expected.items())


NAMES = ["/it's/1.jpg", '/a "b"\\/%_.jpg', '/line\nbreak', '/雪/é.jpg', "/'; DROP TABLE detections; --", '/#1#2']


def test_filters_as_numpy(make):
    """Names and cameras of any letters are data, not conditions."""
    rng = np.random.default_rng(5)
    images = [
        image(f'{name}{n}', 3, 10 * n + k, camera=NAMES[n % 3], time=None if n == 1 else float(n))
        for n in range(4)
        for k, name in enumerate(NAMES)
    ]
    gallery = make()
    rows = [(i, k) for i in images for k in range(3)]
    everything = np.concatenate([i.detections.embeddings for i in images])
    scores = np.concatenate([i.detections.scores for i in images])
    queries = people(5, 99).embeddings
    names = {i.name for i in images[::2]}
    every = [*images, image('empty', 0, camera=NAMES[1], time=2.0)]
    cases = [
        (dict(), lambda i: True),
        (dict(camera=NAMES[1]), lambda i: i.camera == NAMES[1]),
        (dict(camera=NAMES[:2]), lambda i: i.camera in NAMES[:2]),
        (dict(after=2), lambda i: i.time is not None and i.time >= 2),
        (dict(before=2), lambda i: i.time is not None and i.time < 2),
        (dict(after=0, before=1, camera=NAMES[0]), lambda i: i.time == 0),
        (dict(not_images=names), lambda i: i.name not in names),
        (dict(images=names), lambda i: i.name in names),
        (dict(images=[images[0].name, 'absent'], not_images=[images[1].name]), lambda i: i is images[0]),
        (dict(images=[]), lambda i: False),
    ]
    gallery.add(every)
    for options, fits in cases:
        assert gallery.images(**options) == sorted(i.name for i in every if fits(i))
        for score_thr in (None, float(np.float32(scores[7])), rng.random()):
            kept = np.array([fits(i) for i, _ in rows]) & (scores >= np.float32(score_thr or 0))
            assert gallery.count(**options, score_thr=score_thr) == kept.sum()
            for query, hits in zip(queries, gallery.search(queries, 7, **options, score_thr=score_thr), strict=True):
                similarities = everything @ query
                best = [n for n in np.argsort(-similarities) if kept[n]][:7]
                assert hits.images == [rows[n][0].name for n in best]
                assert hits.cameras == [rows[n][0].camera for n in best]
                assert hits.similarities == pytest.approx(similarities[best], abs=1e-6)
                assert np.array_equal(hits.detections.embeddings, everything[best])


def test_equal_similarities_are_in_the_order_of_the_images(make):
    """Equal embeddings, at whatever place, are equally similar, also where they are more than are asked for."""
    rng = np.random.default_rng(0)
    twin = people(1, 7).embeddings
    gallery = make()
    for number in range(9):
        rest = rng.standard_normal((number, DIM), dtype=np.float32) / 10
        count = number + 1
        detections = Detections(
            np.full((count, 4), number, np.float32), np.ones(count, np.float32), np.concatenate([rest, twin])
        )
        gallery.add([GalleryImage(str(number), '', detections)])
    gallery.add([GalleryImage('4', '', gallery['4'])])  # now the last one
    names = list('581427')
    for topk in (3, 6):
        (hits,) = gallery.search(twin, topk, images=names)
        assert hits.images == names[:topk]
        assert hits.detections.boxes[:, 0].tolist() == [int(name) for name in hits.images]
        assert len(set(hits.similarities.tolist())) == 1
    assert gallery.search(twin, 5)[0].images == list('01234')
    many = Detections(np.zeros((300, 4), np.float32), np.arange(300, dtype=np.float32), np.repeat(twin, 300, axis=0))
    gallery.add([GalleryImage('00', '', many)])
    (hits,) = gallery.search(twin, 2)
    assert (hits.images, hits.detections.scores.tolist()) == (['0', '00'], [1, 0])


def test_half_precision(make):
    gallery = make(dtype='float16')
    gallery.add([image(str(n), 3, n) for n in range(50)])
    everything = np.concatenate([people(3, n).embeddings for n in range(50)]).astype(np.float16).astype(np.float32)
    queries = people(4, 99).embeddings
    for query, hits in zip(queries, gallery.search(queries, 10), strict=True):
        assert hits.similarities == pytest.approx(np.sort(everything @ query)[::-1][:10], abs=1e-6)


def test_removed_images_are_forgotten(make):
    """Images, a video with all of its frames, a folder with what is below it."""
    names = ['/a/1.jpg', '/a/2.jpg', '/a/v.mp4#0', '/a/v.mp4#25', '/b/1.jpg', '/b/c/2.jpg', '/bb/1.jpg', 'array 0']
    gallery = make()
    gallery.add([image(name, 2, number) for number, name in enumerate(names)])
    with pytest.raises(UserError, match='has no image /a/9.jpg: nothing was removed'):
        gallery.remove(['/a/1.jpg', '/a/9.jpg'])
    assert gallery.remove('/a/1.jpg') == ['/a/1.jpg']
    assert gallery.remove(['/a/v.mp4', Path('/b'), 'array 0']) == [*names[2:6], names[7]]
    again = make()
    assert gallery.images() == again.images() == ['/a/2.jpg', '/bb/1.jpg']
    assert same(again['/bb/1.jpg'], people(2, 6))
    assert again.missing({'/a/1.jpg': 's'}) == ['/a/1.jpg']
    assert gallery.remove(['/a', '/bb']) == ['/a/2.jpg', '/bb/1.jpg']
    gallery.optimize()
    assert len(make()) == 0
    gallery.add([image('/a/3.jpg', 1, 9)])
    assert same(make()['/a/3.jpg'], people(1, 9))


def test_images_whose_file_is_gone_are_pruned(make, tmp_path):
    names = [f'{tmp_path}/{name}' for name in ('gone.jpg', 'gone.mp4#0', 'gone.mp4#25', 'kept.jpg', 'kept.mp4#3')]
    for name in names:
        Path(name.partition('#')[0]).touch()
    gallery = make()
    gallery.add([image(name) for name in [*names, 'array 0']])
    assert gallery.prune() == []
    for file in ('gone.jpg', 'gone.mp4'):
        (tmp_path / file).unlink()
    assert gallery.prune() == names[:3]
    assert make().images() == [*names[3:], 'array 0']


def test_a_lower_threshold_makes_images_missing(make):
    make(score_thr=0.5).add([image('a', 1, 1), image('b', 1, 2)])
    assert make(score_thr=0.7).missing(dict(a='s')) == []
    low = make(score_thr=0.2)
    assert low.missing(dict(a='s', b='s')) == ['a', 'b']
    low.add([image('a', 2, 3)])
    assert low.missing(dict(a='s', b='s')) == ['b']
    assert make(score_thr=0.5).missing(dict(a='s', b='s')) == []
    assert (low.lowest_score_thr(), low.highest_score_thr(), low.info()['score_thr']) == (0.2, 0.5, 0.5)


def test_another_model_and_another_dimension_are_refused(make):
    make('a' * 64).add([image('a')])
    with pytest.raises(UserError, match=r'was made by another model \(aaaaaaaa, this one is bbbbbbbb\)'):
        make('b' * 64)
    with pytest.raises(UserError, match='has embeddings of 8 numbers, not 9'):
        make('a' * 64, dim=9)
    gallery = make('a' * 64)
    with pytest.raises(UserError, match='has embeddings of 8 numbers, b of 5'):
        gallery.add([GalleryImage('b', '', people(1, dim=5))])
    with pytest.raises(UserError, match=r'embeddings must be \(Q, 8\)'):
        gallery.search(people(1, dim=5).embeddings)
    with pytest.raises(UserError, match='of b hold NaN'):
        gallery.add([GalleryImage('b', '', Detections(*np.full((3, 1, DIM), np.nan, np.float32)))])
    assert gallery.images() == ['a']


def test_what_no_image_can_fulfil_is_named(make):
    gallery = make()
    gallery.add([image('a', camera='left'), image('b', camera='right')])
    query = people(1).embeddings
    with pytest.raises(UserError, match='has no camera lift: its cameras are left, right'):
        gallery.search(query, camera='lift')
    with pytest.raises(UserError, match='has no image with a time, so after and before cannot be used'):
        gallery.search(query, after=3)
    with pytest.raises(UserError, match='before must be a number of seconds, not nan'):
        gallery.search(query, before=float('nan'))
    with pytest.raises(UserError, match='topk must be at least 1, not 0'):
        gallery.search(query, 0)
    with pytest.raises(TypeError, match='colour'):
        gallery.search(query, colour='red')
    gallery.add([image('a'), image('b')])
    with pytest.raises(UserError, match='it names no cameras: index with --camera-folders'):
        gallery.search(query, camera='left')


def test_absent_gallery(make, uri):
    with pytest.raises(UserError, match=f'there is no gallery {uri}'):
        make(None)
    assert len(make()) == make().count() == 0
    assert make().search(people(1).embeddings)[0].images == []


def test_export_and_import(make, tmp_path):
    gallery = make(score_thr=0.25)
    gallery.add([image('2.jpg', 1, 2, camera='c', time=7.5), image('1.jpg', 2, 1), image('3.jpg', 0)])
    gallery.export(tmp_path / 'g.npz')
    results = load_results(tmp_path / 'g.npz')
    assert results.image_names.tolist() == ['1.jpg', '2.jpg', '3.jpg']
    assert results.num_dets.tolist() == [2, 1, 0]
    assert np.array_equal(results.boxes[:2], np.column_stack([people(2, 1).boxes, people(2, 1).scores]))
    assert np.array_equal(results.embeddings[2:], people(1, 2).embeddings)
    assert (results.query_embeddings.shape, results.score_thr) == ((0, DIM), 0.25)
    copied = Gallery(None, 'model', dtype='float32')
    assert copied.import_npz(tmp_path / 'g.npz') == 3
    assert copied.missing({'1.jpg': 's', '2.jpg': 's', '3.jpg': 's'}) == ['1.jpg', '2.jpg', '3.jpg']  # at 0.0
    copied.score_thr = 0.25
    assert copied.missing({'1.jpg': 's', '2.jpg': 's', '3.jpg': 's'}) == []
    assert same(copied['1.jpg'], people(2, 1))
    with pytest.raises(UserError, match='g.npz was made by another model than gallery None'):
        Gallery(None, 'other').import_npz(tmp_path / 'g.npz')
    gallery.export(tmp_path / 'g.csv')
    lines = list(csv.reader((tmp_path / 'g.csv').read_text().splitlines()))
    assert lines[0] == ['image', 'number', 'camera', 'time', 'x1', 'y1', 'x2', 'y2', 'score']
    assert [line[:4] for line in lines[1:]] == [
        ['1.jpg', '0', '', ''],
        ['1.jpg', '1', '', ''],
        ['2.jpg', '0', 'c', '7.5'],
    ]
    assert np.float32([line[4:] for line in lines[1:]]) == pytest.approx(results.boxes)
    with pytest.raises(UserError, match='cannot export to g.txt: choose a name that ends with .npz, .csv, .parquet'):
        gallery.export('g.txt')


def test_export_to_parquet(tmp_path):
    pytest.importorskip('lancedb')
    pq = pytest.importorskip('pyarrow.parquet')
    gallery = Gallery(tmp_path / 'g', 'model')
    gallery.add([image('b', 2, 1, camera='c', time=1.0), image('a', 0)])
    gallery.export(tmp_path / 'g.parquet')
    table = pq.read_table(tmp_path / 'g.parquet')
    assert table['image'].to_pylist() == ['a', 'b', 'b']
    assert table['number'].to_pylist() == [0, 0, 1]
    assert table['score'].to_pylist() == [None, *people(2, 1).scores.tolist()]
    assert np.array_equal(table['embedding'][1].as_py(), people(2, 1).embeddings[0].astype(np.float16))
    with pytest.raises(UserError, match='was made without LanceDB: export it to .npz or .csv'):
        Gallery(None, 'model', DIM).export(tmp_path / 'h.parquet')


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
def test_npz_arrays_that_do_not_belong_together_are_refused(tmp_path, change):
    """Such as the results file of tools/test.py, which has no stamps and no model."""
    path = tmp_path / 'g.npz'
    gallery = Gallery(None, 'model')
    gallery.add([image('a', 1), image('b', 2)])
    gallery.export(path)
    with np.load(path) as file:
        arrays = {**file, **change}
    np.savez(path, **{key: array for key, array in arrays.items() if array is not None})
    with pytest.raises(UserError, match='g.npz is no npz gallery, or a damaged one'):
        gallery.import_npz(path)
    path.write_bytes(b'PK\x03\x04 half a zip')
    with pytest.raises(UserError, match='g.npz is damaged'):
        gallery.import_npz(path)
    with pytest.raises(UserError, match='there is no npz gallery .*absent.npz'):
        gallery.import_npz(tmp_path / 'absent.npz')


def test_a_gallery_stays_with_its_engine(tmp_path):
    """A folder that was filled without LanceDB is opened by NumPy also where LanceDB is installed."""
    Gallery(tmp_path / 'g', 'model', engine='numpy').add([image('a')])
    assert Gallery(tmp_path / 'g').info()['engine'] == 'numpy'
    (tmp_path / 'g/00000002.npz').write_bytes(b'half')
    with pytest.raises(UserError, match='g has a damaged file 00000002.npz: delete it to run its images again'):
        Gallery(tmp_path / 'g')
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='file is a file: give a folder'):
        Gallery(tmp_path / 'file', 'model')


def test_without_lancedb(tmp_path, monkeypatch):
    pytest.importorskip('lancedb')
    Gallery(tmp_path / 'g', 'model').add([image('a')])
    monkeypatch.setitem(sys.modules, 'lancedb', None)
    for uri in (tmp_path / 'g', 's3://bucket/g'):
        with pytest.raises(UserError, match=r"g needs lancedb: pip install 'mmps_kd\[gallery\]'"):
            Gallery(uri, 'model')


READ_ONLY = """
import sys
import numpy as np
from mmps_kd.errors import UserError
from mmps_kd.gallery import Detections, Gallery, GalleryImage
gallery = Gallery(sys.argv[1])
print(gallery.search(np.eye(1, 8, dtype=np.float32), 1)[0].images)
for change in (lambda: gallery.remove('a'), lambda: gallery.add([GalleryImage('c', '', gallery['a'])])):
    try:
        change()
    except UserError as error:
        print(error)
"""


@pytest.mark.parametrize('engine', ['numpy', 'lancedb'])
def test_a_read_only_folder_is_searched(tmp_path, engine):
    if engine == 'lancedb':
        pytest.importorskip('lancedb')
    folder = tmp_path / 'g'
    Gallery(folder, 'model', engine=engine).add([image('a')])
    for path in [*folder.rglob('*'), folder]:
        path.chmod(path.stat().st_mode & ~0o222)
    # Root may write everywhere, unless this right is taken away.
    keep = ['setpriv', '--bounding-set=-dac_override', '--inh-caps=-dac_override']
    if os.geteuid() == 0 and shutil.which('setpriv') is None:
        pytest.skip('root without setpriv (util-linux) can write everywhere')
    command = [*(keep if os.geteuid() == 0 else []), sys.executable, '-c', READ_ONLY, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    for path in [folder, *folder.rglob('*')]:
        path.chmod(path.stat().st_mode | 0o200)
    line = f'gallery {folder} cannot be written: it is read-only: searching works, writing does not'
    assert done.stdout.splitlines() == ["['a']", line, line], done.stderr[-2000:]


FULL_DISK = """
import sys
from pathlib import Path
import numpy as np
from mmps_kd.errors import UserError
from mmps_kd.gallery import Detections, Gallery, GalleryImage
disk, engine = Path(sys.argv[1]), sys.argv[2]
filler = disk / 'filler'
filler.write_bytes(bytes(2 ** 20))
people = Detections(np.zeros((100, 4), 'f'), np.ones(100, 'f'), np.random.default_rng(0).random((100, 256), 'f'))
gallery, added = Gallery(disk / 'g', 'model', engine=engine), []
try:
    for number in range(1000):
        gallery.add([GalleryImage(str(number), 's', people)])
        added.append(str(number))
except UserError as error:
    print(error)
again = Gallery(disk / 'g')
print(len(added) > 5, again.images() == sorted(added), again.count() == 100 * len(added))
filler.unlink()
again.add([GalleryImage('last', 's', people)])
print(sorted(set(Gallery(disk / 'g').images()) - set(added)))
"""


@pytest.mark.parametrize('engine', ['numpy', 'lancedb'])
def test_a_full_disk(tmp_path, engine):
    """One line, nothing that was acknowledged is lost, and with room again it goes on."""
    if engine == 'lancedb':
        pytest.importorskip('lancedb')
    own = ['unshare', '--map-root-user', '--mount']
    if shutil.which('unshare') is None or subprocess.run([*own, 'true'], check=False).returncode:
        pytest.skip('no right to mount a small disk')
    script = 'mount -t tmpfs -o size=6m none "$1" && exec "$0" -c "$2" "$1" "$3"'
    command = [*own, 'sh', '-c', script, sys.executable, str(tmp_path), FULL_DISK, engine]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    line = f'gallery {tmp_path}/g cannot be written: the disk is full: make room, then start again'
    assert done.stdout.splitlines() == [line, 'True True True', "['last']"], done.stderr[-2000:]


def test_a_server_that_does_not_answer(monkeypatch):
    pytest.importorskip('lancedb')
    for name, value in dict(
        AWS_ENDPOINT='http://127.0.0.1:9', AWS_ALLOW_HTTP='true', AWS_ACCESS_KEY_ID='a', AWS_SECRET_ACCESS_KEY='b'
    ).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match='^gallery s3://bucket/g cannot be opened: http://127.0.0.1:9 does not answer$'):
        Gallery('s3://bucket/g', 'model')


def test_what_a_writer_left_that_was_killed(milvus, tmp_path, monkeypatch):
    """Milvus has no transaction: what no image names is never found, and ``optimize`` deletes it when it is old."""
    uri = f'{milvus}/{tmp_path.name}'
    gallery = Gallery(uri, 'model', dtype='float32')
    gallery.add([image('a', 3, 1)])
    engine = gallery._engine
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(engine._client, 'upsert', Mock(side_effect=KeyboardInterrupt))
        gallery.add([image('a', 100, 2), image('b', 100, 3)])

    def rows():
        return engine._client.query(engine._detections, '', ['count(*)'])[0]['count(*)']

    for stored in (203, 203, 3):
        assert (rows(), gallery.count(), gallery.images()) == (stored, 3, ['a'])
        assert same(gallery['a'], people(3, 1))
        (hits,) = gallery.search(people(100, 2).embeddings[:1], 2)
        assert hits.images == ['a', 'a']
        gallery.optimize()
        monkeypatch.setattr('mmps_kd.gallery.milvus_engine.ABANDONED', 0)


needs_pymilvus = pytest.mark.skipif(importlib.util.find_spec('pymilvus') is None, reason='no pymilvus')


@needs_pymilvus
def test_log_files_stay_open_when_pymilvus_is_imported(tmp_path):
    """Its own set-up of logging would close them, MMEngine's among them."""
    script = (
        'import contextlib, logging, sys\n'
        'from mmps_kd.gallery import Gallery\n'
        'log = logging.FileHandler(sys.argv[1])\n'
        'with contextlib.suppress(ValueError):\n'
        "    Gallery('milvus://nowhere')\n"
        "print('pymilvus' in sys.modules, log.stream is not None)\n"
    )
    command = [sys.executable, '-c', script, str(tmp_path / 'log')]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == 'True True\n'


@needs_pymilvus
def test_milvus_that_cannot_be_opened(monkeypatch):
    with pytest.raises(UserError, match='is no address of a gallery in Milvus: write milvus://HOST:PORT/NAME'):
        Gallery('milvus://somewhere', 'model')
    with pytest.raises(UserError, match='127.0.0.1:9/g cannot be opened: no Milvus server answers there$'):
        Gallery('milvus://127.0.0.1:9/g', 'model')
    monkeypatch.setitem(sys.modules, 'pymilvus', None)
    with pytest.raises(UserError, match=r"needs pymilvus: pip install 'mmps_kd\[milvus\]'"):
        Gallery('milvus://127.0.0.1:9/g', 'model')
