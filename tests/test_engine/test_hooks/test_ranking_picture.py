"""Who was missed in a ranking, and the strip of a query."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from mmps_kd.engine.hooks import ranking_picture
from mmps_kd.engine.hooks.ranking_picture import find_missed, picture_ranking
from mmps_kd.evaluation.functional import RankedBoxes, SearchProtocol

BOX = [10, 10, 40, 90]


def make_ranked(*rows, num_truths=3):
    """A ranking of (image, is match) rows."""
    names, matches = zip(*rows, strict=True) if rows else ((), ())
    return RankedBoxes(
        image_names=np.array(names, dtype=str),
        boxes=np.array([BOX] * len(rows), dtype=float).reshape(-1, 4),
        scores=np.ones(len(rows)),
        similarities=np.linspace(0.9, 0.1, len(rows)),
        is_match=np.array(matches, dtype=bool),
        num_truths=num_truths,
    )


def make_protocol(truths, gallery=('a.png', 'b.png', 'c.png', 'd.png')):
    """One query, whose person is in these images of the gallery; his box tells them apart."""
    return SearchProtocol(
        query_images=np.array(['q.png']),
        query_boxes=np.array([BOX], dtype=float),
        query_pids=np.array([3]),
        gallery_images=np.array(gallery),
        offsets=np.array([0, len(gallery)]),
        entries=np.arange(len(gallery), dtype=np.int32),
        truth_offsets=np.array([0, len(truths)]),
        truth_images=np.array(truths, dtype=np.int32),
        truth_boxes=np.array([[index, 0, 50, 80] for index in range(len(truths))], dtype=float).reshape(-1, 4),
    )


def missed(ranked, protocol, topk):
    return [(name, box[0], rank) for name, box, rank in find_missed(ranked, protocol, topk)]


def test_further_down_before_not_detected():
    ranked = make_ranked(('b.png', True), ('a.png', False), ('a.png', False), ('d.png', True), ('c.png', False))
    protocol = make_protocol([0, 1, 3])
    assert missed(ranked, protocol, topk=2) == [('d.png', 2, 4), ('a.png', 0, None)]
    assert missed(ranked, protocol, topk=4) == [('a.png', 0, None)]
    assert missed(ranked, protocol, topk=0)[:2] == [('b.png', 1, 1), ('d.png', 2, 4)]


def test_nothing_found_and_nothing_to_find():
    assert missed(make_ranked(), make_protocol([2]), topk=10) == [('c.png', 0, None)]
    assert missed(make_ranked(('a.png', False)), make_protocol([]), topk=10) == []


def test_an_image_listed_twice_is_missed_once():
    assert missed(make_ranked(), make_protocol([1, 1]), topk=10) == [('b.png', 0, None)]


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draw the query of a protocol; gives what is handed on to be drawn."""
    for index, name in enumerate('qabcd'):
        cv2.imwrite(str(tmp_path / f'{name}.png'), np.full((100, 60, 3), [0, 0, 50 * index], np.uint8))

    def draw(ranked, protocol, topk):
        seen = []
        monkeypatch.setattr(ranking_picture, 'draw_ranking', lambda *arguments: seen.append(arguments))
        metric = SimpleNamespace(rank=lambda query, topk: ranked)
        picture_ranking(tmp_path, protocol, 0, metric, topk)
        return seen[0]

    return draw


def test_strip(drawn):
    ranked = make_ranked(('b.png', True), ('a.png', False), ('d.png', True))
    image, box, title, shown, missed = drawn(ranked, make_protocol([0, 1, 3]), 2)
    assert title == ('query 0 in q.png: 1 of 3 found among the 2 most similar, 1 further down, 1 not detected')
    assert image.shape == (100, 60, 3)
    assert box.tolist() == BOX
    assert [(row.name, bool(row.is_match)) for row in shown] == [('b.png', True), ('a.png', False)]
    assert [tuple(row.image[0, 0]) for row in shown] == [(100, 0, 0), (50, 0, 0)]  # RGB, of the right file
    assert [(row.name, row.rank, tuple(row.image[0, 0])) for row in missed] == [
        ('d.png', 3, (200, 0, 0)),
        ('a.png', None, (50, 0, 0)),
    ]


def test_title_of_a_short_gallery(drawn):
    ranked = make_ranked(('b.png', True), num_truths=1)
    assert drawn(ranked, make_protocol([1]), 10)[2] == 'query 0 in q.png: 1 of 1 found among the 1 most similar'
