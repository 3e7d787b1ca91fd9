"""Pictures of what was found: the right people, in the right colours."""

import numpy as np
import pytest

from mmps_kd.apis import pictures
from mmps_kd.apis.inputs import Sources
from mmps_kd.apis.results import Match, SearchResult
from mmps_kd.gallery import Detections

BLUE, RED, GREEN = (255, 0, 0), (0, 0, 255), (0, 255, 0)  # as OpenCV has them


def source(colour):
    return np.full((200, 100, 3), colour, dtype=np.uint8)


@pytest.fixture
def result():
    box = (20.0, 40.0, 60.0, 160.0)
    matches = [Match('array 2', box, 1.0, 0.9), Match('array 0', box, 1.0, 0.8)]
    return SearchResult('query.jpg', box, matches, 3, 7, [])


def test_scenes_that_are_shown_are_read_again_and_turned_to_rgb(result, monkeypatch):
    drawn = []
    draw = pictures.draw_ranking
    monkeypatch.setattr(pictures, 'draw_ranking', lambda *args: (drawn.append(args), draw(*args))[1])
    picture = pictures.picture_search(
        source(BLUE), result, Sources([source(RED), source(GREEN), source(BLUE)]).named, np.array([result.query_box])
    )
    ((query, box, title, ranked),) = drawn
    assert query[0, 0].tolist() == [0, 0, 255]
    assert box.tolist() == [[20, 40, 60, 160]]
    assert title == 'query.jpg: the 2 most similar of 7 people in 3 images'
    assert [(item.name, item.image[0, 0].tolist()) for item in ranked] == [
        ('array 2', [0, 0, 255]),
        ('array 0', [255, 0, 0]),
    ]
    assert [(item.similarity, item.is_match) for item in ranked] == [(0.9, None), (0.8, None)]
    assert picture.dtype == np.uint8


def test_several_query_images_stand_side_by_side(result):
    low = source(GREEN)[:120]
    image, boxes = pictures.join_queries(
        [(source(RED), np.float64([[1, 2, 3, 4]])), (low, np.float64([[5, 6, 7, 8], [0, 0, 9, 9]]))]
    )
    assert image.shape == (200, 200, 3)
    assert np.array_equal(image[:, :100], source(RED))
    assert np.array_equal(image[:120, 100:], low)
    assert (image[120:, 100:] == 255).all()
    assert boxes.tolist() == [[1, 2, 3, 4], [105, 6, 107, 8], [100, 0, 109, 9]]
    framed = [pictures.picture_search(image, result, Sources([source(RED)] * 3).named, boxes[:n]) for n in (1, 3)]
    assert framed[0].shape == framed[1].shape
    assert not np.array_equal(*framed)


def test_detections_are_framed():
    people = Detections(np.float32([[20, 40, 60, 160]]), np.float32([0.75]), np.ones((1, 2), np.float32))
    nobody = people[:0]
    framed, bare = (pictures.picture_detections(source(RED), p) for p in (people, nobody))
    assert framed.shape == bare.shape
    assert (bare == [255, 0, 0]).all(axis=2).sum() > (framed == [255, 0, 0]).all(axis=2).sum()
