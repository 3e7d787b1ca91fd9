"""Processes that write one gallery at the same time, are killed and start again, while it is read."""

import random
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mmps_kd.gallery import Detections, Gallery, GalleryImage

pytestmark = pytest.mark.slow


class Writer:
    """A process of writer.py; ``acknowledged`` grows while it runs."""

    def __init__(self, uri, number, batches):
        engine = 'numpy' if uri.endswith('numpy') else 'lancedb'
        command = [sys.executable, str(Path(__file__).with_name('writer.py')), uri, engine, str(number), str(batches)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.acknowledged, self.first = set(), threading.Event()
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            if line.endswith('\n') and line != 'done\n':  # what was printed in part is not acknowledged
                self.acknowledged.update(line.split())
                self.first.set()
        self.first.set()

    def end(self):
        self.thread.join()
        errors = self.process.stderr.read()
        return self.process.wait(), errors


def check_whole(uri):
    """Every image that a reader sees has the rows of one write, all of them once; gives the names."""
    (hits,) = Gallery(uri).search(np.ones((1, 8), np.float32), 10_000)
    of_image = {}
    for name, box in zip(hits.images, hits.detections.boxes.tolist(), strict=True):
        of_image.setdefault(name, Counter())[tuple(box)] += 1
    for name, writes in of_image.items():
        assert len(writes) == 1, (name, writes)
        ((number, _, _, count),) = writes
        assert (name, writes.total()) == (str(int(number)), count)
    return set(of_image)


def test_writers_are_killed_and_start_again(uri):
    steady, restarted, acknowledged = Writer(uri, 0, 60), Writer(uri, 1, 60), set()
    steady.first.wait()
    seed = random.randrange(10**6)
    rng, reads = random.Random(seed), 0
    for _ in range(3):
        restarted.first.wait()
        for _ in range(rng.randint(1, 6)):
            check_whole(uri)
            reads += 1
        restarted.process.kill()
        restarted.end()
        acknowledged |= restarted.acknowledged
        restarted = Writer(uri, 1, 20)
    while restarted.process.poll() is None or steady.process.poll() is None:
        check_whole(uri)
        reads += 1
    for writer in (steady, restarted):
        code, errors = writer.end()
        assert code == 0, errors[-2000:]
        acknowledged |= writer.acknowledged
    assert check_whole(uri) == acknowledged, f'seed {seed}'
    assert Gallery(uri).images() == sorted(acknowledged)
    assert reads > 3


def test_three_writers_at_once(uri):
    """Also those that make the gallery at the same time."""
    writers = [Writer(uri, number, 12) for number in range(3)]
    for writer in writers:
        code, errors = writer.end()
        assert code == 0, errors[-2000:]
    assert check_whole(uri) == set.union(*(writer.acknowledged for writer in writers))


def test_the_index_finds_what_numpy_finds(tmp_path, monkeypatch):
    """With an index, recall@10 is at least 0.99 on vectors clustered like identities, with and without a filter."""
    pytest.importorskip('lancedb')
    monkeypatch.setattr('mmps_kd.gallery.lance_engine.EXACT_ROWS', 30_000)
    rng, number, dim = np.random.default_rng(0), 40_000, 128
    centres = rng.standard_normal((number // 20, dim))
    vectors = centres[rng.integers(0, len(centres), number + 100)] + 0.6 * rng.standard_normal((number + 100, dim))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    vectors, queries = vectors[:number], vectors[number:]
    gallery = Gallery(tmp_path / 'g', 'model', dim)

    def add(start, stop):
        gallery.add(
            [
                GalleryImage(
                    f'{n:06d}', '', Detections(np.zeros((5, 4), 'f'), np.ones(5, 'f'), vectors[n : n + 5]), f'{n % 4}'
                )
                for n in range(start, stop, 5)
            ]
        )

    add(0, 35_000)
    gallery.add([GalleryImage('empty', '', Detections(*(np.zeros(s, 'f') for s in ((0, 4), 0, (0, dim)))), '3')])
    assert gallery.info()['index'] is None
    gallery.optimize()
    add(35_000, number)  # the index does not have these
    assert (gallery.info()['index'], gallery.info()['rows_not_in_index']) == ('IVF_RQ', 5000)
    similarities = queries @ vectors.astype(np.float16).astype(np.float32).T
    camera = np.arange(number) // 5 * 5 % 4
    for options, kept in ((dict(), camera >= 0), (dict(camera='3'), camera == 3)):
        allowed = np.where(kept, similarities, -2)
        least = np.sort(allowed, axis=1)[:, -10] - 1e-5
        found = [hits.similarities for hits in gallery.search(queries, 10, **options)]
        assert np.mean([(row >= limit).sum() for row, limit in zip(found, least, strict=True)]) >= 9.9
        exact = [hits.similarities for hits in gallery.search(queries[:20], 10, **options, exact=True)]
        assert np.array(exact) == pytest.approx(np.sort(allowed[:20], axis=1)[:, :-11:-1], abs=1e-5)
