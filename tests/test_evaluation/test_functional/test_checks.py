"""Each way in which results do not fit gets one line that names the item."""

from dataclasses import replace

import numpy as np
import pytest

from mmps_kd.errors import UserError
from mmps_kd.evaluation.functional import QueryContext, check_results, evaluate_search


def with_value(array, index, value):
    changed = array.copy()
    changed[index] = value
    return changed


def test_good_results_pass(tiny_search):
    results, protocol = tiny_search
    check_results(results, protocol)
    check_results(results, protocol, known_images=['a', 'b', 'c', 'd', 'e'])


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda r: dict(embeddings=with_value(r.embeddings, 3, np.nan)), r"embeddings of image 'b' .*\(detection 3\)"),
        (lambda r: dict(embeddings=with_value(r.embeddings, 0, np.inf)), "embeddings of image 'c' hold NaN or inf"),
        (lambda r: dict(boxes=with_value(r.boxes, (5, 2), np.nan)), "boxes of image 'a' hold NaN or infinity"),
        (lambda r: dict(query_embeddings=r.query_embeddings * np.nan), 'query_embeddings of query 0 hold NaN'),
        (lambda r: dict(query_embeddings=np.ones((1, 2))), 'embeddings have dimension 1, query_embeddings 2'),
        (lambda r: dict(query_embeddings=np.ones((3, 1))), 'results hold 3 queries, the protocol 1'),
        (lambda r: dict(image_names=np.array(['d', 'c', 'b', 'b'])), "list image 'b' 2 times"),
        (lambda r: dict(image_names=np.array(['d', 'c', 'b', 'x'])), "gallery image 'a' is not in the results: .* 0$"),
        (lambda r: dict(image_names=r.image_names[:3]), '3 img_names but 4 num_dets'),
        (lambda r: dict(num_dets=np.array([0, 1, 3, 1])), 'num_dets add up to 5 but there are 6 bboxes'),
        (lambda r: dict(num_dets=np.array([-1, 1, 3, 3])), "num_dets of image 'd' is negative"),
        (lambda r: dict(embeddings=r.embeddings[1:]), '6 bboxes but 5 embeddings'),
        (lambda r: dict(query_images=np.array(['p'])), "query 0 is image 'q' in the protocol but 'p' in query_names"),
        (lambda r: dict(query_images=np.array(['q', 'q'])), 'query_names has 2 entries for 1 query_embeddings'),
        (lambda r: dict(query_boxes=np.array([[0.0, 0, 13, 20]])), r'query 0 is box .* in the protocol but \[0.0, 0.0'),
    ],
)
def test_misfit_is_named(tiny_search, change, message):
    results, protocol = tiny_search
    broken = replace(results, **change(results))
    for check in (check_results, evaluate_search):
        with pytest.raises(UserError, match=message) as caught:
            check(broken, protocol)
        assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('context', 'message'),
    [
        (QueryContext(np.array([0, 0]), np.zeros((0, 5)), np.zeros((0, 1))), 'has 2 entries for 1 queries'),
        (QueryContext(np.array([2]), np.zeros((1, 5)), np.zeros((1, 1))), 'add up to 2, but there are 1'),
        (QueryContext(np.array([1]), np.zeros((1, 5)), np.zeros((1, 3))), 'query_context_embeddings 3'),
        (QueryContext(np.array([1]), np.zeros((1, 5)), np.full((1, 1), np.inf)), r'hold NaN or infinity \(person 0\)'),
    ],
)
def test_context_misfit_is_named(tiny_search, context, message):
    results, protocol = tiny_search
    with pytest.raises(UserError, match=message):
        check_results(replace(results, query_context=context), protocol)


def test_one_pixel_is_no_misfit(tiny_search):
    results, protocol = tiny_search
    check_results(replace(results, query_boxes=np.array([[1.0, 0, 11, 20]])), protocol)


def test_unknown_image_is_named(tiny_search):
    results, protocol = tiny_search
    more = replace(
        results, image_names=np.append(results.image_names, 'train.jpg'), num_dets=np.append(results.num_dets, 0)
    )
    with pytest.raises(UserError, match="image 'train.jpg', which the test set does not have"):
        check_results(more, protocol)
    # Scoring one of several protocols: images of the others may be there.
    assert evaluate_search(more, protocol).mAP == evaluate_search(results, protocol).mAP


@pytest.mark.parametrize('name', ['A', '.\\a'])
def test_the_near_name_is_given(tiny_search, name):
    results, protocol = tiny_search
    names = np.array([name if other == 'a' else other for other in results.image_names.tolist()])
    with pytest.raises(UserError, match=r"gallery image 'a' is not in the results \(there is '") as caught:
        check_results(replace(results, image_names=names), protocol)
    assert repr(name) in str(caught.value)
