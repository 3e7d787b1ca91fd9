"""Context bipartite graph matching against enumeration of all matchings."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmps_kd.datasets import load_cuhk_sysu_evaluation
from mmps_kd.errors import UserError
from mmps_kd.evaluation.functional import CBGM, QueryContext, SearchResults, evaluate_search


def best_matching(weights: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of the heaviest matching that uses up the smaller side."""
    rows, cols = weights.shape
    if rows <= cols:
        options = [list(zip(range(rows), chosen, strict=True)) for chosen in permutations(range(cols), rows)]
    else:
        options = [list(zip(chosen, range(cols), strict=True)) for chosen in permutations(range(rows), cols)]
    return max(options, key=lambda pairs: sum(weights[i, j] for i, j in pairs))


def two_friends(tiny_search):
    """The query's friend is seen in image b alone, beside a weak view of the query."""
    results, protocol = tiny_search
    results = replace(
        results,
        num_dets=np.array([0, 1, 2, 1]),
        boxes=np.array(
            [
                [0, 0, 40, 80, 0.9],  # c: somebody similar
                [200, 0, 240, 80, 0.9],  # b: the friend
                [10, 10, 50, 90, 0.9],  # b: the query
                [0, 0, 40, 80, 0.9],  # a: the query, seen well
            ]
        ),
        embeddings=np.array([[0.8, 0.0], [0.0, 1.0], [0.6, 0.2], [0.9, 0.0]], np.float32),
        query_embeddings=np.array([[1.0, 0.0]], np.float32),
    )
    context = QueryContext(np.array([1]), np.array([[0.0, 0, 9, 9, 0.9]]), np.array([[0.0, 1.0]], np.float32))
    return replace(results, query_context=context), protocol


def test_context_lifts_the_companion(tiny_search):
    results, protocol = two_friends(tiny_search)
    assert evaluate_search(results, protocol).ap.tolist() == pytest.approx([(1 + 2 / 3) / 2])
    # b's query box now has the friend's 1.0 and leads; a keeps 0.9, c 0.8.
    assert evaluate_search(results, protocol, cbgm=CBGM(k1=10, k2=2)).ap.tolist() == [1.0]
    # One person a group, or b out of the k1 most similar: as before.
    assert evaluate_search(results, protocol, cbgm=CBGM(k1=10, k2=1)).ap.tolist() == pytest.approx([5 / 6])
    assert evaluate_search(results, protocol, cbgm=CBGM(k1=2, k2=2)).ap.tolist() == pytest.approx([5 / 6])


def test_people_of_the_query_image_are_taken_from_the_results(tiny_search):
    results, protocol = two_friends(tiny_search)
    context = results.query_context
    own_image = np.vstack([[[0, 0, 10, 20, 0.9]], context.boxes, [[50, 0, 60, 20, 0.4]]])
    results = replace(
        results,
        image_names=np.append(results.image_names, 'q'),
        num_dets=np.append(results.num_dets, 3),
        boxes=np.vstack([results.boxes, own_image]),
        embeddings=np.vstack([results.embeddings, [[1, 0]], context.embeddings, [[1, 1]]]).astype(np.float32),
        query_context=None,
    )
    # The box on the query itself and the one below the threshold are left out.
    assert evaluate_search(results, protocol, cbgm=CBGM(k1=10, k2=2)).ap.tolist() == [1.0]


def test_missing_context_is_named(tiny_search):
    results, protocol = tiny_search
    with pytest.raises(UserError, match="CBGM needs the people of query image 'q'"):
        evaluate_search(results, protocol, cbgm=CBGM())


@pytest.mark.parametrize('settings', [dict(k1=0), dict(k2=0), dict(similarity='mean')])
def test_wrong_settings(settings):
    with pytest.raises(UserError, match='CBGM'):
        CBGM(**settings)


def search_with_company(results, protocol, cbgm, is_hit, average_precision, queries):
    """AP and rank of the first true positive of some queries, CBGM by plain loops over all matchings."""
    starts = np.cumsum([0, *results.num_dets])
    rows = {str(name): range(starts[i], starts[i + 1]) for i, name in enumerate(results.image_names)}
    embeddings, boxes = results.embeddings.tolist(), results.boxes.tolist()
    others = np.cumsum([0, *results.query_context.num_people])

    def dot(one, two):
        return sum(x * y for x, y in zip(one, two, strict=True))

    aps, firsts = [], []
    for query in queries:
        mine = results.query_embeddings[query].tolist()
        listed = protocol.entries[protocol.offsets[query] : protocol.offsets[query + 1]].tolist()
        images = {str(protocol.gallery_images[entry]): None for entry in listed}
        similarity = {name: [dot(mine, embeddings[row]) for row in rows[name]] for name in images}
        ranked = sorted(((value, name) for name, values in similarity.items() for value in values), reverse=True)
        if cbgm is not None:
            people = sorted(range(others[query], others[query + 1]), key=lambda i: -results.query_context.boxes[i, 4])
            group = [mine, *(results.query_context.embeddings[i].tolist() for i in people[: cbgm.k2 - 1])]
            for name in {name for _, name in ranked[: cbgm.k1]}:
                weights = np.array([[dot(one, embeddings[row]) for row in rows[name]] for one in group])
                matching = best_matching(weights)
                matched = [weights[pair] for pair in matching]
                for person, column in matching:
                    if person == 0:
                        similarity[name][column] = sum(matched) if cbgm.similarity == 'total' else max(matched)
        values, labels = [], []
        truths = range(protocol.truth_offsets[query], protocol.truth_offsets[query + 1])
        truth = {}
        for t in truths:  # of an image that is listed twice, the first true box
            truth.setdefault(str(protocol.gallery_images[protocol.truth_images[t]]), protocol.truth_boxes[t].tolist())
        for name in images:
            order = sorted(range(len(rows[name])), key=lambda i: -similarity[name][i])
            true = truth.get(name)
            right = [i for i in order if true and is_hit(boxes[rows[name][i]][:4], true)]
            values += similarity[name]
            labels += [int(i in right[:1]) for i in range(len(rows[name]))]
        found = sum(labels)
        aps.append(average_precision(values, labels) * found / len(truths) if found else 0.0)
        hits = [label for _, label in sorted(zip(values, labels, strict=True), reverse=True)]
        firsts.append(hits.index(1) + 1 if found else 0)
    return aps, firsts


def walks_in_company(protocol, rng, dim=16):
    """Detections of a given protocol: noisy views of the queries and of two companions each, and strangers.

    A query walks with its companions in its own image and in about a third of its true images. Its detections are
    the true boxes.
    """

    def unit(rows):
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    queries = protocol.num_queries
    person, friends = unit(rng.standard_normal((queries, dim))), unit(rng.standard_normal((queries * 2, dim)))
    views = [[] for _ in protocol.gallery_images]
    boxes = [[] for _ in protocol.gallery_images]
    owners = np.repeat(np.arange(queries), np.diff(protocol.truth_offsets))
    for query, image, box in zip(owners, protocol.truth_images, protocol.truth_boxes, strict=True):
        seen = [person[query]] + ([friends[2 * query], friends[2 * query + 1]] if rng.random() < 1 / 3 else [])
        views[image] += [one + rng.standard_normal(dim) * 0.2 for one in seen]
        boxes[image] += [[*box, 0.9]] + [[0, 0, 1, 1, 0.8]] * (len(seen) - 1)
    for image in range(len(views)):
        views[image] += [*rng.standard_normal((rng.integers(0, 5), dim))]
        boxes[image] += [[0, 0, 1, 1, 0.7]] * (len(views[image]) - len(boxes[image]))
    noise = rng.standard_normal((queries * 2, dim)) * 0.1
    confidences = np.column_stack([np.zeros((queries * 2, 4)), rng.random(queries * 2)])
    return SearchResults(
        protocol.gallery_images,
        np.array([len(image) for image in boxes]),
        np.array([box for image in boxes for box in image], dtype=np.float64),
        unit(np.array([view for image in views for view in image])).astype(np.float32),
        unit(person + rng.standard_normal((queries, dim)) * 0.2).astype(np.float32),
        query_context=QueryContext(np.full(queries, 2), confidences, unit(friends + noise).astype(np.float32)),
    )


def first_queries(protocol, count):
    return replace(
        protocol,
        **{name: getattr(protocol, name)[:count] for name in ('query_images', 'query_boxes', 'query_pids')},
        offsets=protocol.offsets[: count + 1],
        entries=protocol.entries[: protocol.offsets[count]],
        truth_offsets=protocol.truth_offsets[: count + 1],
        truth_images=protocol.truth_images[: protocol.truth_offsets[count]],
        truth_boxes=protocol.truth_boxes[: protocol.truth_offsets[count]],
    )


RULES = {'none': None, 'strongest': CBGM(), 'total': CBGM(similarity='total')}


def test_published_rule_and_the_other_one(make_search, hit_oracle, precision_oracle):
    """Frozen figures of a synthetic search, which the loops give too."""
    protocol = make_search(5, queries=40, images=60, listed=30)[1]
    results = walks_in_company(protocol, np.random.default_rng(6))
    frozen = {'none': (0.795553, 0.875), 'strongest': (0.828284, 0.9), 'total': (0.575310, 0.6)}
    for name, cbgm in RULES.items():
        scores = evaluate_search(results, protocol, cbgm=cbgm)
        aps, firsts = search_with_company(results, protocol, cbgm, hit_oracle, precision_oracle, range(40))
        assert scores.ap.tolist() == pytest.approx(aps)
        assert scores.first_hit.tolist() == firsts
        assert (scores.mAP, scores.topk[1]) == pytest.approx(frozen[name], abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    k1=st.integers(1, 12),
    k2=st.integers(1, 3),
    similarity=st.sampled_from(['total', 'strongest']),
    listed=st.sampled_from([1, 12]),
)
@example(seed=300000, k1=1, k2=1, similarity='total', listed=1)  # two overlapping true boxes in one image
def test_agrees_with_enumeration(make_search, hit_oracle, precision_oracle, seed, k1, k2, similarity, listed):
    protocol = make_search(seed, queries=3, images=12, listed=listed)[1]
    results = walks_in_company(protocol, np.random.default_rng(seed))
    cbgm = CBGM(k1, k2, similarity)
    scores = evaluate_search(results, protocol, cbgm=cbgm)
    aps, firsts = search_with_company(results, protocol, cbgm, hit_oracle, precision_oracle, range(3))
    assert scores.ap.tolist() == pytest.approx(aps)
    assert scores.first_hit.tolist() == firsts


def test_real_protocol(shared_data, tmp_path, hit_oracle, precision_oracle):
    """Frozen figures on TestG100.mat, a part of which the loops give too."""
    folder = tmp_path / 'annotation/test/train_test'
    folder.mkdir(parents=True)
    (folder / 'TestG100.mat').symlink_to(shared_data.resolve() / 'TestG100.mat')
    protocol = first_queries(load_cuhk_sysu_evaluation(tmp_path).main, 300)
    results = walks_in_company(protocol, np.random.default_rng(7))
    frozen = {'none': (0.645041, 183 / 300), 'strongest': (0.723353, 217 / 300), 'total': (0.605205, 187 / 300)}
    for name, cbgm in RULES.items():
        scores = evaluate_search(results, protocol, cbgm=cbgm)
        aps, firsts = search_with_company(results, protocol, cbgm, hit_oracle, precision_oracle, range(8))
        assert scores.ap[:8].tolist() == pytest.approx(aps)
        assert scores.first_hit[:8].tolist() == firsts
        assert (scores.mAP, scores.topk[1]) == pytest.approx(frozen[name], abs=1e-6)
