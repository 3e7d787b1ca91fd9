"""Results as JSON."""

import json

import numpy as np
import pytest

from mmps_kd.apis import Detected, DetectionResult, Match, QueryBox, SearchResult, Skipped, Turned, read_match
from mmps_kd.errors import UserError
from mmps_kd.gallery import Detections

LOST = Skipped('b.jpg', 'b.jpg is damaged')
LOST_DICT = dict(name='b.jpg', reason='b.jpg is damaged')


def test_detections(tmp_path):
    people = Detections(np.float32([[1, 2, 3.5, 4]]), np.float32([0.5]), np.ones((1, 2), np.float32))
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


def test_several_boxes_and_a_least_similarity():
    boxes = [QueryBox('q.jpg', (5, 6, 7, 8)), QueryBox('r.jpg', (1, 2, 3, 4))]
    result = SearchResult('q.jpg', (5, 6, 7, 8), [], 2, 9, [], queries=boxes, min_similarity=0.5).to_dict()
    assert result['query'] == dict(name='q.jpg', box=[5, 6, 7, 8])
    assert result['queries'] == [result['query'], dict(name='r.jpg', box=[1, 2, 3, 4])]
    assert (result['min_similarity'], result['matches']) == (0.5, [])


def test_a_match_is_read_again(tmp_path):
    path = tmp_path / 'r.json'
    matches = [Match('a.jpg', (1.0, 2.0, 3.5, 4.0), 0.5, 0.25), Match('c.mp4#7', (0.0, 0.0, 1.0, 1.0), 1.0, -1.0)]
    SearchResult('q.jpg', (5, 6, 7, 8), matches, 2, 9, []).save(path)
    assert [read_match(path, rank) for rank in (1, 2)] == matches
    for rank in (0, 3):
        with pytest.raises(UserError, match=f'r.json has 2 matches, none of rank {rank}; ranks are counted from 1'):
            read_match(path, rank)


@pytest.mark.parametrize('content', [None, '', '{}', '[1]', '{"matches": [{"name": "a"}]}', '{"scenes": []}'])
def test_no_results_file(tmp_path, content):
    path = tmp_path / 'r.json'
    if content is not None:
        path.write_text(content)
    message = 'r.json cannot be read: No such file' if content is None else 'r.json is not the results.json of a search'
    with pytest.raises(UserError, match=message):
        read_match(path, 1)
