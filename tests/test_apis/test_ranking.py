"""The ranking of a gallery's people."""

import numpy as np
import pytest

from mmps_kd.apis.ranking import rank_scenes
from mmps_kd.apis.results import Match
from mmps_kd.errors import UserError
from mmps_kd.gallery import GalleryIndex, People

QUERY = np.array([1, 0], dtype=np.float32)


@pytest.fixture
def index():
    """Scene b is empty; the most similar person, in c, has a low score; scene d is not searched."""
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
        index.add(name, '', People(boxes, np.array(scores, dtype=np.float32), embeddings))
    return index


def test_most_similar_first_low_scores_left_out(index):
    matches, num_people = rank_scenes(index, ['a', 'b', 'c'], QUERY, 0.5, 10)
    assert matches == [Match('a', (4, 5, 6, 7), 0.5, 0.75), Match('a', (0, 1, 2, 3), pytest.approx(0.9), 0.25)]
    assert num_people == 2


def test_lower_threshold_and_few_wanted(index):
    matches, num_people = rank_scenes(index, ['a', 'b', 'c'], QUERY, 0.3, 1)
    assert [match.name for match in matches] == ['c']
    assert num_people == 3


@pytest.mark.parametrize('names', [['b'], ['b', 'c']])
def test_nobody(index, names):
    message = f'nobody was found with a score of at least 0.5 in the {len(names)} scenes of the gallery'
    with pytest.raises(UserError, match=message):
        rank_scenes(index, names, QUERY, 0.5, 10)
