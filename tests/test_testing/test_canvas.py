import numpy as np
import pytest

from mmps_kd.testing.synthetic.canvas import Canvas, Sprite, box, capsule


def canvas() -> Canvas:
    return Canvas(20, 16, light=(0.0, 0.0))


def test_fill_covers_the_shape_and_nothing_else():
    picture = canvas()
    picture.fill(box(4, 3, 11, 9), (10, 20, 30), roundness=1)
    covered = np.zeros((16, 20), bool)
    covered[3:10, 4:12] = True
    np.testing.assert_array_equal(picture.alpha > 0.5, covered)
    np.testing.assert_allclose(picture.colour[6, 8], (10, 20, 30), rtol=0.1)
    assert not picture.colour[picture.alpha == 0].any()


def test_a_shape_is_darker_at_its_edge_and_lighter_towards_the_light():
    lit = Canvas(40, 40, light=(-1.0, 0.0))
    lit.fill(box(10, 10, 30, 30), (100, 100, 100), roundness=8)
    left, middle, right = (lit.colour[20, column, 0] for column in (11, 20, 29))
    assert left > right and middle > right


def test_later_shapes_hide_earlier_ones():
    picture = canvas()
    picture.fill(box(0, 0, 19, 15), (0, 0, 200), 1)
    picture.fill(box(5, 5, 12, 12), (200, 0, 0), 1)
    assert picture.colour[8, 8, 2] == pytest.approx(0) and picture.colour[8, 8, 0] > 150
    assert picture.alpha[8, 8] == pytest.approx(1)


def test_shapes_may_reach_over_the_edge_or_lie_outside():
    picture = canvas()
    picture.fill(box(-5, -5, 3, 3), (9, 9, 9), 1)
    assert (picture.alpha > 0.5).sum() == 16
    picture.fill(box(50, 50, 60, 60), (9, 9, 9), 1)
    assert (picture.alpha > 0.5).sum() == 16


def test_paint_function_gets_columns_and_rows():
    picture = canvas()

    def paint(columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.stack(np.broadcast_arrays(columns[None, :], rows[:, None], np.float32(0)), 2).astype(np.float32)

    picture.fill(box(2, 2, 17, 13), paint, 1)
    np.testing.assert_allclose(picture.colour[7, 9], (9, 7, 0), rtol=0.05)


def test_shrink_averages_and_places():
    picture = canvas()
    picture.alpha[4:6, 6:8] = [[1, 0], [1, 1]]
    sprite = picture.shrink(2, 30.2, -7.9)
    assert sprite.alpha.shape == (8, 10) and (sprite.x, sprite.y) == (30, -8)
    assert sprite.alpha[2, 3] == pytest.approx(0.75) and sprite.alpha.sum() == pytest.approx(0.75)


def test_trimmed_keeps_the_place():
    alpha = np.zeros((6, 7), np.float32)
    alpha[2:4, 3:6] = 1
    sprite = Sprite(np.repeat(alpha[..., None], 3, 2), alpha, 10, 20).trimmed()
    assert (sprite.x, sprite.y) == (13, 22) and sprite.alpha.shape == (2, 3) and sprite.colour.shape == (2, 3, 3)


def test_capsule_keeps_its_distance_from_the_bone():
    start, end = np.array([3.0, 4.0]), np.array([9.0, 12.0])
    outline = capsule(start, end, 2.0, 2.0)
    along = np.clip((outline - start) @ (end - start) / 100, 0, 1)
    distance = np.linalg.norm(outline - (start + along[:, None] * (end - start)), axis=1)
    np.testing.assert_allclose(distance, 2.0)
