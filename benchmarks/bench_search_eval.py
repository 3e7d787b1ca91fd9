"""Time evaluate_search beside a per-query, per-image loop and beside the bare matrix product.

``python benchmarks/bench_search_eval.py [cuhk-100 cuhk-all prw]`` makes test sets of the real ones' counts, with
people found, missed, found twice and mistaken. With a large gallery the loop runs on every n-th query, and its time
is multiplied by n; so is the loop's figure compared on those queries alone.
"""

import argparse
import os
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from search_loop import evaluate_by_loop

from mmps_kd.evaluation.functional import SearchProtocol, SearchResults, evaluate_search

DIM = 256
CASES = {
    # queries, images, listed images (None: all but the query's own), detections, true boxes of a query, loop's n
    'cuhk-100': (2900, 6978, 100, 30000, 2, 1),
    'cuhk-all': (2900, 6978, None, 30000, 2, 50),
    'prw': (2400, 6112, None, 32000, 40, 50),
}


def make_protocol(rng: np.random.Generator, queries: int, images: int, listed: int | None, truths: int):
    """Random galleries; the first images listed hold the person."""
    truth_counts = rng.integers(1, 2 * truths, queries)
    galleries, own = [], rng.integers(0, images, queries)
    for query in range(queries):
        order = rng.permutation(images)
        order = order[order != own[query]]
        galleries.append(order[:listed] if listed else order)
    truth_images = [gallery[:count] for gallery, count in zip(galleries, truth_counts, strict=True)]
    corners = rng.integers(0, 900, (truth_counts.sum(), 2))
    sides = rng.integers((20, 60), (120, 300), corners.shape)
    return SearchProtocol(
        query_images=np.array([f's{i:05d}.jpg' for i in own]),
        query_boxes=np.tile(np.array([0.0, 0, 50, 100]), (queries, 1)),
        query_pids=np.arange(queries),
        gallery_images=np.array([f's{i:05d}.jpg' for i in range(images)]),
        offsets=np.cumsum([0, *map(len, galleries)]),
        entries=np.concatenate(galleries if listed else [np.sort(g) for g in galleries]).astype(np.int32),
        truth_offsets=np.cumsum([0, *truth_counts]),
        truth_images=np.concatenate(truth_images).astype(np.int32),
        truth_boxes=np.hstack([corners, corners + sides]).astype(np.float64),
    )


def make_results(rng: np.random.Generator, protocol: SearchProtocol, detections: int) -> SearchResults:
    """Up to half of the detections show searched people; the rest are anywhere."""
    people = np.repeat(np.arange(protocol.num_queries), np.diff(protocol.truth_offsets))
    identities = rng.standard_normal((protocol.num_queries, DIM), dtype=np.float32)
    shown = rng.choice(len(people), min(detections // 2, int(0.9 * len(people))), replace=False)
    others = detections - len(shown)
    images = np.concatenate([protocol.truth_images[shown], rng.integers(0, len(protocol.gallery_images), others)])
    corners = rng.integers(0, 900, (others, 2))
    noise = np.hstack([corners, corners + rng.integers((20, 60), (120, 300), corners.shape)])
    boxes = np.vstack([protocol.truth_boxes[shown] + rng.normal(0, 4, (len(shown), 4)), noise])
    embeddings = rng.standard_normal((detections, DIM), dtype=np.float32)
    embeddings[: len(shown)] = identities[people[shown]] + 2 * embeddings[: len(shown)]
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    order = np.argsort(images, kind='stable')
    return SearchResults(
        image_names=protocol.gallery_images,
        num_dets=np.bincount(images, minlength=len(protocol.gallery_images)),
        boxes=np.column_stack([boxes, rng.uniform(0.5, 1, detections)])[order],
        embeddings=embeddings[order],
        query_embeddings=identities / np.linalg.norm(identities, axis=1, keepdims=True),
    )


def take_queries(results: SearchResults, protocol: SearchProtocol, step: int) -> tuple[SearchResults, SearchProtocol]:
    """Every ``step``-th query alone."""
    queries = range(0, protocol.num_queries, step)
    entries = [protocol.entries[protocol.offsets[q] : protocol.offsets[q + 1]] for q in queries]
    truths = np.concatenate([np.arange(protocol.truth_offsets[q], protocol.truth_offsets[q + 1]) for q in queries])
    part = replace(
        protocol,
        query_images=protocol.query_images[::step],
        query_boxes=protocol.query_boxes[::step],
        query_pids=protocol.query_pids[::step],
        offsets=np.cumsum([0, *map(len, entries)]),
        entries=np.concatenate(entries),
        truth_offsets=np.cumsum([0, *np.diff(protocol.truth_offsets)[::step]]),
        truth_images=protocol.truth_images[truths],
        truth_boxes=protocol.truth_boxes[truths],
    )
    return replace(results, query_embeddings=results.query_embeddings[::step]), part


def loop_inputs(results: SearchResults, protocol: SearchProtocol) -> tuple[list, dict]:
    """The loop's view of the same data."""
    names = protocol.gallery_images.tolist()
    galleries = []
    for query in range(protocol.num_queries):
        span = slice(protocol.truth_offsets[query], protocol.truth_offsets[query + 1])
        truths = dict(zip(protocol.truth_images[span].tolist(), protocol.truth_boxes[span].tolist(), strict=True))
        listed = protocol.entries[protocol.offsets[query] : protocol.offsets[query + 1]].tolist()
        galleries.append([(names[image], truths.get(image)) for image in listed])
    ends = np.cumsum(results.num_dets)
    spans = zip(names, ends - results.num_dets, ends, strict=True)
    found = {name: (results.boxes[a:b], results.embeddings[a:b]) for name, a, b in spans if b > a}
    return galleries, found


def timed(function: Callable[[], Any], repeats: int) -> tuple[Any, float]:
    """What the function returns, and its shortest time in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        value = function()
        times.append(time.perf_counter() - start)
    return value, min(times)


def matrix_product(results: SearchResults) -> None:
    """All queries against all detections, 500 queries at a time."""
    for first in range(0, len(results.query_embeddings), 500):
        results.query_embeddings[first : first + 500] @ results.embeddings.T


def run_case(name: str, repeats: int) -> None:
    """Time one case and print a line."""
    queries, images, listed, detections, truths, step = CASES[name]
    rng = np.random.default_rng(0)
    protocol = make_protocol(rng, queries, images, listed, truths)
    results = make_results(rng, protocol, detections)
    scores, seconds = timed(lambda: evaluate_search(results, protocol), repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    product_seconds = timed(lambda: matrix_product(results), repeats)[1]
    part = take_queries(results, protocol, step)
    galleries, found = loop_inputs(*part)
    (mean_ap, topk), loop_seconds = timed(lambda: evaluate_by_loop(galleries, found, part[0].query_embeddings), 2)
    same = evaluate_search(*part)
    difference = max(abs(same.mAP - mean_ap), *(abs(same.topk[k] - topk[k]) for k in topk))
    scaled = '' if step == 1 else f' (from every {step}th query)'
    print(
        f'{name}: mAP {scores.mAP:.4f}, top-1 {scores.topk[1]:.4f}; {seconds:.3f} s; '
        f'loop {loop_seconds * step:.2f} s{scaled}, {loop_seconds * step / seconds:.0f} times as long; '
        f'full matrix product {product_seconds:.3f} s; largest difference in a figure {difference:.1e}; '
        f'peak memory {peak:.2f} GiB',
        flush=True,
    )


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('cases', nargs='*', choices=[[], *CASES], help='default: all')
    parser.add_argument('--repeats', type=int, default=5, help='the shortest of so many times counts')
    return parser.parse_args()


def main() -> None:
    """Run the cases asked for."""
    args = parse_args()
    print(f'{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, NumPy {np.__version__}')
    for name in args.cases or CASES:
        run_case(name, args.repeats)


if __name__ == '__main__':
    main()
