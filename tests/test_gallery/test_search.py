"""The ranking of the detections in a gallery index."""

import numpy as np
import pytest

from mmps_kd.gallery import Detections, GalleryIndex

QUERY = np.array([1, 0], dtype=np.float32)


@pytest.fixture
def index():
    """Scene b is empty; the most similar person, in c, has a low score; image d is not searched."""
    index = GalleryIndex(None, '')
    for name, scores, similarities in (
        ('a', [0.9, 0.5], [0.25, 0.75]),
        ('b', [], []),
        ('c', [0.4], [1]),
        ('d', [1], [1]),
    ):
        x = np.array(similarities, dtype=np.float32)
        boxes = np.arange(4 * len(x), dtype=np.float32).reshape(-1, 4)
        embeddings = np.column_stack([x, np.sqrt(1 - x**2)]).astype(np.float32)
        index.add(name, '', Detections(boxes, np.array(scores, dtype=np.float32), embeddings))
    return index


def test_most_similar_first_low_scores_left_out(index):
    names, people, similarities, num_people = index.search(QUERY, ['a', 'b', 'c'], score_thr=0.5, topk=10)
    assert (names, people.boxes.tolist()) == (['a', 'a'], [[4, 5, 6, 7], [0, 1, 2, 3]])
    assert (similarities.tolist(), num_people) == ([0.75, 0.25], 2)


def test_lower_threshold_and_few_wanted(index):
    names, _, _, num_people = index.search(QUERY, ['a', 'b', 'c'], score_thr=0.3, topk=1)
    assert (names, num_people) == (['c'], 3)


@pytest.mark.parametrize('names', [['b'], ['b', 'c']])
def test_nobody(index, names):
    assert index.search(QUERY, names, score_thr=0.5, topk=10)[3] == 0
