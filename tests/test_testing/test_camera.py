import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmps_kd.testing.synthetic.camera import LARGEST, SMALLEST, Light, View, expose, sample_light, sample_view


def test_a_metre_is_larger_lower_in_the_picture():
    view = View(400, 300, horizon=60, vanishing=200, camera_height=2)
    assert view.row(0) == 60 and view.row(50) == 160 and view.row(100) == 260


@given(st.integers(0, 10_000))
def test_people_of_every_scale_stand_below_the_horizon_and_about_in_the_picture(seed):
    view = sample_view(np.random.default_rng(seed), 400, 300)
    assert 1 < view.camera_height < 3.5 and 0 < view.tilt <= 0.35
    assert view.horizon < view.row(SMALLEST * 300) < view.row(LARGEST * 300) < 1.1 * 300


@pytest.mark.parametrize('seed', range(3))
def test_exposure_applies_the_light(seed):
    scene = np.full((60, 80, 3), 120, np.float32)
    picture = expose(np.random.default_rng(seed), scene, Light((0.5, -0.6), (1.1, 1.0, 0.6), 0.3))
    assert picture.dtype == np.uint8 and picture.shape == scene.shape
    centre = picture[25:35, 35:45].reshape(-1, 3).mean(0)
    np.testing.assert_allclose(centre, (132, 120, 72), atol=4)
    assert (scene == 120).all()


def test_light_differs_from_image_to_image():
    gains = np.array([sample_light(np.random.default_rng(seed)).gain for seed in range(200)])
    assert gains.mean(1).min() < 0.85 and gains.mean(1).max() > 1.1
    assert np.ptp(gains[:, 0] / gains[:, 2]) > 0.3
