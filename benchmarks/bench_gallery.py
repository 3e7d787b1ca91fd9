"""Speed and memory of a gallery of N embeddings: opening, searching, adding an image.

Vectors are clustered like identities, about 20 of each. Wall-clock and CPU time are printed, medians of repetitions.
"""

import argparse
import importlib
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmps_kd.gallery import Detections, Gallery, GalleryImage

DIM, PEOPLE, CAMERAS, QUERIES = 256, 5, 8, 50


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('number', type=float, help='embeddings, such as 1e6')
    parser.add_argument('--gallery', type=Path, default=Path('work_dirs/bench_gallery'), help='made anew')
    parser.add_argument('--measure', action='store_true', help=argparse.SUPPRESS)
    return parser.parse_args()


def draw(centres: np.ndarray, rng: np.random.Generator, number: int) -> np.ndarray:
    """(number, D) float32 of unit length, around random centres."""
    vectors = centres[rng.integers(0, len(centres), number)]
    vectors = vectors + 0.04 * rng.standard_normal((number, DIM), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def draw_centres(number: int) -> np.ndarray:
    """One unit vector for each identity."""
    centres = np.random.default_rng(0).standard_normal((max(number // 20, 1), DIM), dtype=np.float32)
    return centres / np.linalg.norm(centres, axis=1, keepdims=True)


def make_images(start: int, vectors: np.ndarray) -> list[GalleryImage]:
    """Images of five people."""
    boxes, scores = np.ones((PEOPLE, 4), np.float32), np.full(PEOPLE, 0.9, np.float32)
    return [
        GalleryImage(f'/gallery/{n:08d}.jpg', 's', Detections(boxes, scores, own), f'cam{n % CAMERAS}', float(n))
        for n, own in enumerate(vectors.reshape(-1, PEOPLE, DIM), start=start)
    ]


def timed(name: str, call: Callable, repetitions: int = 1, divide: int = 1) -> object:
    """Print median wall-clock and CPU milliseconds of a call."""
    walls, cpus = [], []
    for _ in range(repetitions):
        wall, cpu = time.perf_counter(), time.process_time()
        result = call()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    wall, cpu = (1000 * statistics.median(times) / divide for times in (walls, cpus))
    print(f'{name:40s} {wall:10.1f} ms wall {cpu:10.1f} ms CPU', flush=True)
    return result


def fill(args: argparse.Namespace, number: int) -> None:
    """Make the gallery in batches of 10,000 detections, then optimize it."""
    shutil.rmtree(args.gallery, ignore_errors=True)
    centres, rng = draw_centres(number), np.random.default_rng(1)
    gallery, batch = Gallery(args.gallery, 'model', DIM), 10_000
    seconds = cpu = 0.0
    for start in range(0, number, batch):
        images = make_images(start // PEOPLE, draw(centres, rng, batch))
        before = time.perf_counter(), time.process_time()
        gallery.add(images)
        seconds, cpu = seconds + time.perf_counter() - before[0], cpu + time.process_time() - before[1]
    print(f'added {number / seconds:.0f} embeddings a second, {number / cpu:.0f} a CPU second', flush=True)
    timed('optimize (files, index)', gallery.optimize)


def measure(args: argparse.Namespace, number: int) -> None:
    """Open the gallery in a fresh process and search it."""
    timed('import lancedb', lambda: importlib.import_module('lancedb'))
    before = peak()
    gallery = timed('open', lambda: Gallery(args.gallery))
    queries = draw(draw_centres(number), np.random.default_rng(2), QUERIES)
    calls = iter(queries.repeat(3, axis=0)[:, None])
    timed('exact top-10, one query', lambda: gallery.search(next(calls), 10, exact=True), 7)
    print(f'peak memory {peak() - before:.2f} GB, beside {before:.2f} GB of libraries', flush=True)
    truth = timed('exact top-10, each of 50 queries', lambda: gallery.search(queries, 10, exact=True), 1, QUERIES)
    calls = iter(queries[:, None])
    timed('top-10 by default, one query', lambda: gallery.search(next(calls), 10), 21)
    answers = timed('top-10 by default, each of 50 queries', lambda: gallery.search(queries, 10), 3, QUERIES)
    print(f'recall@10 {recall(answers, truth):.4f}, peak memory {peak() - before:.2f} GB')
    truth = gallery.search(queries, 10, camera='cam3', exact=True)
    answers = timed('with camera, each of 50', lambda: gallery.search(queries, 10, camera='cam3'), 3, QUERIES)
    print(f'recall@10 {recall(answers, truth):.4f}')
    first = 10**7 + time.time_ns() % 10**9 * 100  # not there yet, also in a repetition
    new = iter(make_images(first, draw(draw_centres(number), np.random.default_rng(3), 5 * 20)))
    timed('add an image', lambda: gallery.add([next(new)]), 11)
    print(f'peak memory {peak() - before:.2f} GB')
    timed('replace an image', lambda: gallery.add([make_images(3, queries[:5])[0]]), 3)
    names = {f'/gallery/{n:08d}.jpg': 's' for n in range(2000)}
    timed('missing, 2,000 images', lambda: gallery.missing(names), 3)
    print(f'peak memory {peak() - before:.2f} GB, beside {before:.2f} GB of libraries')
    size = sum(file.stat().st_size for file in args.gallery.rglob('*') if file.is_file())
    info = gallery.info()
    print(f'on disk {size / 1e6:.0f} MB; {info["files"]} files, index: {info["index"]}')


def peak() -> float:
    """Peak memory of this process in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def recall(answers: list, truth: list) -> float:
    """Part of the true top 10 that is found."""

    def rows(hits: object) -> set:
        return set(zip(hits.images, hits.similarities.tolist(), strict=True))

    return float(np.mean([len(rows(a) & rows(t)) / len(t) for a, t in zip(answers, truth, strict=True)]))


def main() -> None:
    """Fill, then measure in a process of its own."""
    args = parse_args()
    number = int(args.number) // 10_000 * 10_000
    if args.measure:
        measure(args, number)
    else:
        fill(args, number)
        subprocess.run([sys.executable, __file__, str(number), '--gallery', args.gallery, '--measure'], check=True)


if __name__ == '__main__':
    main()
