"""Results as JSON."""

import json

import numpy as np

from mmps_kd.apis import Detected, DetectionResult, Match, SearchResult, Skipped, Turned
from mmps_kd.gallery import People

LOST = Skipped('b.jpg', 'b.jpg is damaged')
LOST_DICT = dict(name='b.jpg', reason='b.jpg is damaged')


def test_detections(tmp_path):
    people = People(np.float32([[1, 2, 3.5, 4]]), np.float32([0.5]), np.ones((1, 2), np.float32))
    result = DetectionResult([Detected('a.jpg', people, np.zeros((2, 2, 3)))], [LOST])
    expected = dict(scenes=[dict(name='a.jpg', boxes=[[1, 2, 3.5, 4]], scores=[0.5])], skipped=[LOST_DICT])
    assert result.to_dict() == expected
    result.save(tmp_path / 'r.json')
    assert json.loads((tmp_path / 'r.json').read_text()) == expected


def test_search(tmp_path):
    matches = [Match('a.jpg', (1, 2, 3.5, 4), 0.5, 0.25), Match('c.jpg', (0, 0, 1, 1), 1, -1)]
    result = SearchResult('q.jpg', (5, 6, 7, 8), matches, 2, 9, [LOST], np.zeros((2, 2, 3)))
    result.save(tmp_path / 'r.json')
    assert json.loads((tmp_path / 'r.json').read_text()) == dict(
        query=dict(name='q.jpg', box=[5, 6, 7, 8]),
        gallery=dict(scenes=2, people=9, skipped=[LOST_DICT]),
        matches=[
            dict(rank=1, name='a.jpg', box=[1, 2, 3.5, 4], score=0.5, similarity=0.25),
            dict(rank=2, name='c.jpg', box=[0, 0, 1, 1], score=1, similarity=-1),
        ],
    )


def test_turned_images_are_named():
    result = SearchResult('q.jpg', (5, 6, 7, 8), [], 2, 9, [], turned=[Turned('q.jpg', 6)]).to_dict()
    assert result['turned'] == [dict(name='q.jpg', orientation=6)]
    assert result['boxes'].startswith('in pixels as stored')
    assert DetectionResult([], [], [Turned('a.jpg', 3)]).to_dict()['turned'] == [dict(name='a.jpg', orientation=3)]
