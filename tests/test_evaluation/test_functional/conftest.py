"""Small random searches, and the field's evaluation written as plain loops."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mmps_kd.evaluation.functional import SearchProtocol, SearchResults


def overlap(a: list, b: list) -> float:
    """Intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def average_precision(scores: list[float], labels: list[int]) -> float:
    """Sum over the different scores, from the top, of the gain in recall times the precision there."""
    total, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = [label for score, label in zip(scores, labels, strict=True) if score >= threshold]
        gained = sum(taken) / sum(labels)
        total += (gained - recall) * sum(taken) / len(taken)
        recall = gained
    return total


def detections_by_image(results: SearchResults, score_thr: float) -> dict[str, list]:
    """Detections above the threshold by image name: (box, score, embedding)."""
    found, index = {}, 0
    for name, count in zip(results.image_names.tolist(), results.num_dets, strict=True):
        rows = range(index, index + count)
        found[name] = [
            (results.boxes[i, :4].tolist(), float(results.boxes[i, 4]), results.embeddings[i].astype(np.float64))
            for i in rows
            if results.boxes[i, 4] >= score_thr
        ]
        index += count
    return found


def listed_truths(protocol: SearchProtocol, query: int) -> list[tuple[str, list]]:
    """True boxes of a query: (image, box)."""
    span = range(protocol.truth_offsets[query], protocol.truth_offsets[query + 1])
    return [(str(protocol.gallery_images[protocol.truth_images[t]]), protocol.truth_boxes[t].tolist()) for t in span]


def is_hit(box, true_box) -> bool:
    """Whether a box overlaps a true box enough; that of another person may."""
    width, height = true_box[2] - true_box[0], true_box[3] - true_box[1]
    return overlap(box, true_box) >= min(0.5, width * height / ((width + 10) * (height + 10)))


def rank_query(results, protocol, query, score_thr=0.5, weighted=False):
    """One query by the field's loop: similarities and labels of all boxes in ranking order, and number of truths."""
    detections = detections_by_image(results, score_thr)
    truths = listed_truths(protocol, query)
    embedding = results.query_embeddings[query].astype(np.float64)
    scores, labels, seen = [], [], set()
    for entry in protocol.entries[protocol.offsets[query] : protocol.offsets[query + 1]]:
        name = str(protocol.gallery_images[entry])
        if name in seen:
            continue
        seen.add(name)
        ranked = [(float(emb @ embedding) * (conf if weighted else 1), box) for box, conf, emb in detections[name]]
        ranked.sort(key=lambda item: -item[0])
        image_labels = [0] * len(ranked)
        true_box = next((box for image, box in truths if image == name), None)
        if true_box is not None:
            passing = [i for i, (_, box) in enumerate(ranked) if is_hit(box, true_box)]
            if passing:
                image_labels[passing[0]] = 1
        scores += [similarity for similarity, _ in ranked]
        labels += image_labels
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    return [scores[i] for i in order], [labels[i] for i in order], len(truths)


def search_by_loops(results, protocol, score_thr=0.5, topk=(1, 5, 10), weighted=False) -> tuple[np.ndarray, dict]:
    """AP of each query (scaled by recall), and top-k."""
    aps, hits = [], {k: 0 for k in topk}
    for query in range(protocol.num_queries):
        scores, labels, num_truths = rank_query(results, protocol, query, score_thr, weighted)
        found = sum(labels)
        aps.append(average_precision(scores, labels) * found / num_truths if found else 0.0)
        for k in topk:
            hits[k] += any(labels[:k])
    return np.array(aps), {k: count / protocol.num_queries for k, count in hits.items()}


@pytest.fixture(scope='session')
def search_oracle() -> Callable:
    """See :func:`search_by_loops`."""
    return search_by_loops


@pytest.fixture(scope='session')
def rank_oracle() -> Callable:
    """See :func:`rank_query`."""
    return rank_query


@pytest.fixture(scope='session')
def precision_oracle() -> Callable:
    """See :func:`average_precision`."""
    return average_precision


@pytest.fixture(scope='session')
def hit_oracle() -> Callable:
    """See :func:`is_hit`."""
    return is_hit


@pytest.fixture(scope='session')
def overlap_oracle() -> Callable:
    """See :func:`overlap`."""
    return overlap


def random_protocol(rng: np.random.Generator, queries: int, images: int, listed: int) -> SearchProtocol:
    """Galleries of some images, one to three of them with the person; one image in ten galleries is listed twice."""
    entries, truth_images, truth_boxes = [], [], []
    for _ in range(queries):
        gallery = rng.permutation(images)[:listed].tolist()
        with_person = gallery[: rng.integers(1, min(3, listed) + 1)]
        if rng.random() < 0.1:
            gallery.append(gallery[0])
            with_person = [*with_person, gallery[0]]
        corners = rng.integers(0, 60, (len(with_person), 2))
        truth_boxes.append(np.hstack([corners, corners + rng.integers(8, 60, corners.shape)]))
        entries.append(gallery)
        truth_images.append(with_person)
    return SearchProtocol(
        query_images=np.array([f'query{i}.jpg' for i in range(queries)]),
        query_boxes=np.tile(np.array([0.0, 0.0, 10.0, 20.0]), (queries, 1)),
        query_pids=np.arange(queries),
        gallery_images=np.array([f'image{i}.jpg' for i in range(images)]),
        offsets=np.cumsum([0, *map(len, entries)]),
        entries=np.concatenate(entries).astype(np.int32),
        truth_offsets=np.cumsum([0, *map(len, truth_images)]),
        truth_images=np.concatenate(truth_images).astype(np.int32),
        truth_boxes=np.concatenate(truth_boxes).astype(np.float64),
    )


def random_results(rng: np.random.Generator, protocol: SearchProtocol, dim: int = 4) -> SearchResults:
    """Noise, shifted true boxes, repeated detections, images without any; small whole numbers, so that ties abound."""
    images = len(protocol.gallery_images)
    boxes, embeddings = [[] for _ in range(images)], [[] for _ in range(images)]
    for image, box in zip(protocol.truth_images, protocol.truth_boxes, strict=True):
        for _ in range(rng.integers(0, 3)):
            boxes[image].append([*(box + rng.integers(-4, 5, 4)), rng.choice([0.3, 0.5, 0.9])])
            embeddings[image].append(rng.integers(-2, 3, dim))
    for image in range(images):
        for _ in range(rng.integers(0, 3)):
            corner = rng.integers(0, 60, 2)
            boxes[image].append([*corner, *(corner + rng.integers(8, 60, 2)), rng.choice([0.3, 0.5, 0.9])])
            embeddings[image].append(rng.integers(-2, 3, dim))
    order = rng.permutation(images)
    return SearchResults(
        image_names=protocol.gallery_images[order],
        num_dets=np.array([len(boxes[i]) for i in order]),
        boxes=np.array([box for i in order for box in boxes[i]], dtype=np.float64).reshape(-1, 5),
        embeddings=np.array([emb for i in order for emb in embeddings[i]], dtype=np.float32).reshape(-1, dim),
        query_embeddings=rng.integers(-2, 3, (protocol.num_queries, dim)).astype(np.float32),
    )


@pytest.fixture(scope='session')
def make_search() -> Callable:
    """A random search: results and protocol. With ``ties=False`` all similarities differ."""

    def make(seed: int, queries: int = 6, images: int = 8, listed: int = 5, ties: bool = True):
        rng = np.random.default_rng(seed)
        protocol = random_protocol(rng, queries, images, listed)
        results = random_results(rng, protocol)
        if not ties:
            noise = rng.standard_normal(results.embeddings.shape).astype(np.float32)
            results = replace(results, embeddings=results.embeddings + noise)
        return results, protocol

    return make


@pytest.fixture(scope='session')
def make_results() -> Callable:
    """See :func:`random_results`."""
    return random_results


@pytest.fixture
def tiny_search() -> tuple[SearchResults, SearchProtocol]:
    """One query; its person stands in images a and b, c is without it, d without detections.

    Boxes above 0.5 by similarity: b wrong 0.9, a right 0.8, a right again 0.7, c 0.6, b right 0.5.
    """
    protocol = SearchProtocol(
        query_images=np.array(['q']),
        query_boxes=np.array([[0.0, 0, 10, 20]]),
        query_pids=np.array([7]),
        gallery_images=np.array(['a', 'b', 'c', 'd']),
        offsets=np.array([0, 4]),
        entries=np.array([0, 1, 2, 3], dtype=np.int32),
        truth_offsets=np.array([0, 2]),
        truth_images=np.array([0, 1], dtype=np.int32),
        truth_boxes=np.array([[0.0, 0, 40, 80], [10, 10, 50, 90]]),
    )
    results = SearchResults(
        image_names=np.array(['d', 'c', 'b', 'a']),
        num_dets=np.array([0, 1, 3, 2]),
        boxes=np.array(
            [
                [0, 0, 40, 80, 0.9],
                [200, 0, 240, 80, 0.9],
                [10, 10, 50, 90, 0.5],
                [10, 10, 50, 90, 0.4],
                [0, 0, 40, 78, 0.8],
                [0, 0, 40, 80, 0.6],
            ]
        ),
        embeddings=np.array([[0.6], [0.9], [0.5], [1.0], [0.8], [0.7]], dtype=np.float32),
        query_embeddings=np.array([[1.0]], dtype=np.float32),
    )
    return results, protocol
