import numpy as np
import pytest

from mmps_kd.testing.synthetic import place
from mmps_kd.testing.synthetic.camera import SMALLEST, View, sample_view
from mmps_kd.testing.synthetic.ground import paint_ground
from mmps_kd.testing.synthetic.props import PROPS, paint_prop
from mmps_kd.testing.synthetic.textures import SIDE, cloudy, crop, grain


@pytest.mark.parametrize('kind', place.KINDS, ids=lambda kind: kind.props[0] + ' by ' + kind.closed_by)
@pytest.mark.parametrize('size', [(160, 120), (400, 300)])
def test_every_kind_of_place_is_a_finished_picture(kind, size, monkeypatch):
    monkeypatch.setattr(place, 'KINDS', (kind,))
    for seed in range(3):
        rng = np.random.default_rng(seed)
        made = place.make_place(rng, sample_view(rng, *size))
        assert made.background.shape == (size[1], size[0], 3) and made.background.dtype == np.float32
        assert np.isfinite(made.background).all()
        assert 20 < made.background.mean() < 250 and made.background.std() > 10
        assert all(name in kind.props and abs(x) <= made.half_width for name, x, _ in made.props)


def test_the_same_seed_makes_the_same_place():
    view = View(160, 120, 30, 80, 2)
    first, second = (place.make_place(np.random.default_rng(5), view) for _ in range(2))
    np.testing.assert_array_equal(first.background, second.background)
    assert first.props == second.props


@pytest.mark.parametrize('kind', PROPS)
@pytest.mark.parametrize('scale', [SMALLEST * 0.7 * 120, 60.0])
def test_props_stand_on_their_foot(kind, scale):
    sprite = paint_prop(kind, np.random.default_rng(0), scale, (50, 200), (-0.5, -0.5))
    assert sprite.alpha.max() > 0.2
    rows, columns = np.nonzero(sprite.alpha > 0.1)
    assert sprite.y + rows.max() == pytest.approx(200, abs=0.2 * scale + 2)
    assert sprite.y + rows.min() > 200 - PROPS[kind][1] * scale - 2
    assert sprite.x + columns.min() - 1 <= 50 <= sprite.x + columns.max() + 1


def test_ground_lies_below_the_horizon_and_its_slabs_shrink_with_distance():
    image = np.zeros((300, 400, 3), np.float32)
    paint_ground(np.random.default_rng(0), image, View(400, 300, 50, 200, 2), ('tiles',))
    assert not image[:52].any() and image[52:].all()
    joints = []
    for row in (290, 150):
        dark = image[row, :, 1] < 0.88 * np.median(image[row, :, 1])
        joints.append(int((np.diff(dark.astype(int)) == 1).sum()))
    # Slabs of 1.2 m across 400 pixels: 2.8 of them at 120 pixels a metre, 6.7 at 50.
    assert joints == [pytest.approx(2.8, abs=1.5), pytest.approx(6.7, abs=1.5)]


def test_noise_is_standard_and_has_no_seam():
    noise = cloudy()
    assert noise.mean() == pytest.approx(0, abs=1e-3) and noise.std() == pytest.approx(1, abs=1e-3)
    inside = np.abs(np.diff(noise, axis=1)).mean()
    assert np.abs(noise[:, 0] - noise[:, -1]).mean() < 1.5 * inside
    assert np.abs(noise[0] - noise[-1]).mean() < 1.5 * inside


def test_crop_takes_a_piece_and_goes_round_the_edge():
    piece = crop(grain(), np.random.default_rng(0), SIDE + 3, 4)
    assert piece.shape == (4, SIDE + 3, 3)
    np.testing.assert_array_equal(piece[:, :3], piece[:, SIDE:])
    enlarged = crop(grain(), np.random.default_rng(0), 8, 4, zoom=2)
    np.testing.assert_array_equal(enlarged[::2, ::2], enlarged[1::2, 1::2])
