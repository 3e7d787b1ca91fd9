"""The ranked strip, pixel by pixel where it matters."""

import numpy as np

from mmps_kd.visualization import RankingPicture, draw_ranking
from mmps_kd.visualization.ranking import BLUE, CELL_HEIGHT, CELL_WIDTH, GREEN, HEADER, MARGIN, RED


def grey(height=100, width=200, value=90):
    return np.full((height, width, 3), value, np.uint8)


def test_frames_tell_matches_from_others():
    box = np.array([20, 10, 60, 90.0])
    ranked = [RankingPicture(grey(), box, 0.9, True, 'a.jpg'), RankingPicture(grey(), box, 0.5, False, 'b.jpg')]
    picture = np.asarray(draw_ranking(grey(), box, 'title', ranked))
    first = 480 + 3 * MARGIN  # the scene of 200x100 pixels, drawn 240 pixels high, and its margins
    assert picture.shape[1] == first + 2 * (CELL_WIDTH + MARGIN)
    assert tuple(picture[HEADER, first]) == GREEN
    assert tuple(picture[HEADER, first + CELL_WIDTH + MARGIN]) == RED
    middle = picture[HEADER + CELL_HEIGHT // 2, first + CELL_WIDTH // 2]
    assert tuple(middle) == (90, 90, 90)
    # The query's frame, where its box lies in the enlarged scene.
    assert tuple(picture[HEADER + 120, MARGIN + 48]) == BLUE


def test_nothing_found_still_shows_the_query():
    picture = draw_ranking(grey(), np.array([0, 0, 50, 99.0]), 'title', [])
    assert picture.size == (480 + 3 * MARGIN, picture.height)


def test_boxes_at_the_edge_and_thinner_than_a_pixel():
    for box in ([-5, -5, 30, 120], [199.5, 10, 199.9, 10.2], [0, 99.4, 200, 99.6]):
        row = RankingPicture(grey(), np.array(box), 0.1, False, 'x' * 40)
        picture = draw_ranking(grey(), np.array(box), 't', [row])
        assert picture.size[0] == 480 + 3 * MARGIN + CELL_WIDTH + MARGIN
