"""The ranked strip, pixel by pixel where it matters."""

import numpy as np
import pytest

from mmps_kd.visualization import MissedPicture, RankingPicture, draw_ranking
from mmps_kd.visualization.draw import AMBER, BLUE, GREEN, MUTED, RED
from mmps_kd.visualization.ranking import CELL_HEIGHT, CELL_WIDTH, HEADER, MARGIN

BOX = np.array([20, 10, 60, 90.0])
FIRST = 480 + 3 * MARGIN  # the scene of 200x100 pixels, drawn 240 pixels high, and its margins
STEP = CELL_WIDTH + MARGIN


def grey(height=100, width=200, value=90):
    return np.full((height, width, 3), value, np.uint8)


def test_frames_tell_matches_from_others():
    verdicts = [True, False, None, np.True_]
    ranked = [RankingPicture(grey(), BOX, 0.9, verdict, 'a.jpg') for verdict in verdicts]
    picture = np.asarray(draw_ranking(grey(), BOX, 'title', ranked))
    assert picture.shape[1] == FIRST + 4 * STEP
    frames = [tuple(picture[HEADER, FIRST + index * STEP]) for index in range(4)]
    assert frames == [GREEN, RED, MUTED, GREEN]
    middle = picture[HEADER + CELL_HEIGHT // 2, FIRST + CELL_WIDTH // 2]
    assert tuple(middle) == (90, 90, 90)
    # The query's frame, where its box lies in the enlarged scene.
    assert tuple(picture[HEADER + 120, MARGIN + 48]) == BLUE


def test_missed_people_stand_behind_a_line():
    ranked = [RankingPicture(grey(), BOX, 0.9, True, 'a.jpg')]
    missed = [MissedPicture(grey(), BOX, 12, 'b.jpg'), MissedPicture(grey(), BOX, None, 'c.jpg')]
    picture = np.asarray(draw_ranking(grey(), BOX, 'title', ranked, missed))
    first_missed = FIRST + STEP + 2 * MARGIN
    assert picture.shape[1] == first_missed + 2 * STEP
    frames = [tuple(picture[HEADER, first_missed + index * STEP]) for index in range(2)]
    assert frames == [AMBER, AMBER]
    between = picture[HEADER + CELL_HEIGHT // 2, FIRST + CELL_WIDTH : first_missed]
    assert (between == MUTED).all(axis=1).sum() == 1
    # What is said below: another text for the one that was not detected at all.
    captions = picture[HEADER + CELL_HEIGHT : HEADER + CELL_HEIGHT + 20]
    rank, undetected = (captions[:, first_missed + index * STEP :][:, :CELL_WIDTH] for index in range(2))
    assert (rank == AMBER).all(axis=2).any()
    assert not np.array_equal(rank, undetected)


def test_nothing_found_still_shows_the_query():
    picture = draw_ranking(grey(), np.array([0, 0, 50, 99.0]), 'title', [])
    assert picture.size == (480 + 3 * MARGIN, picture.height)


def test_the_title_is_not_cut_off():
    assert draw_ranking(grey(), BOX, 'W' * 100, []).width > 1000


@pytest.mark.parametrize('box', [[-5, -5, 30, 120], [199.5, 10, 199.9, 10.2], [0, 99.4, 200, 99.6]])
def test_boxes_at_the_edge_and_thinner_than_a_pixel(box):
    row = RankingPicture(grey(), np.array(box), 0.1, False, 'x' * 40)
    picture = draw_ranking(grey(), np.array(box), 't', [row])
    assert picture.size[0] == FIRST + STEP


def test_captions_name_the_folder_where_files_have_the_same_name():
    def draw(*names):
        return np.asarray(draw_ranking(grey(), BOX, 't', [RankingPicture(grey(), BOX, 0.9, None, n) for n in names]))

    assert not np.array_equal(draw('/g/cam1/a.jpg', '/g/cam2/a.jpg'), draw('/g/cam3/a.jpg', '/g/cam4/a.jpg'))
    assert np.array_equal(draw('/g/cam1/a.jpg', '/g/cam2/b.jpg'), draw('a.jpg', 'b.jpg'))
