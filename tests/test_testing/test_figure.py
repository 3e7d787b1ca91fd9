from dataclasses import replace

import numpy as np
import pytest

from mmps_kd.testing.synthetic.appearance import Appearance
from mmps_kd.testing.synthetic.canvas import Sprite
from mmps_kd.testing.synthetic.figure import paint_figure
from mmps_kd.testing.synthetic.pose import Pose, pose_joints

RED, GREEN, BLUE, GREY = (30.0, 30.0, 220.0), (30.0, 220.0, 30.0), (220.0, 30.0, 30.0), (120.0, 120.0, 120.0)
PERSON = Appearance(
    height=1.75,
    girth=1.0,
    skin=(150, 180, 220),
    hair=(30, 30, 30),
    hair_length='short',
    top=GREY,
    second=GREEN,
    pattern='plain',
    sleeves='long',
    coat=False,
    bottom=BLUE,
    bottom_kind='trousers',
    shoes=(30, 30, 32),
    bag='none',
    bag_colour=RED,
    hat='none',
    hat_colour=RED,
)
FRONT, BACK, SIDE = 0.0, np.pi, np.pi / 2


def pose(yaw: float, stride: float = 0.0) -> Pose:
    return Pose(yaw, phase=1.0, stride=stride, elbows=(0.2, 0.2), tilt=0.1)


def paint(person: Appearance, yaw: float, stride: float = 0.0, scale: float = 60, feet=(50, 100)) -> Sprite:
    return paint_figure(person, pose(yaw, stride), scale, feet, (-0.5, -0.5))


def count(sprite: Sprite, colour: tuple) -> int:
    """Pixels whose strongest channel is that of the colour, by far."""
    channel = int(np.argmax(colour))
    others = np.delete(sprite.colour, channel, axis=2).max(2)
    return int((sprite.colour[..., channel] > others + 60).sum())


@pytest.mark.parametrize('height', [1.5, 1.9])
@pytest.mark.parametrize('yaw', [FRONT, BACK, SIDE])
def test_figure_is_as_tall_as_its_person_and_stands_on_its_feet(height, yaw):
    sprite = paint(replace(PERSON, height=height), yaw)
    assert sprite.alpha.shape[0] == pytest.approx(height * 60, rel=0.06)
    assert sprite.y + sprite.alpha.shape[0] == pytest.approx(100, abs=5)
    assert sprite.x < 50 < sprite.x + sprite.alpha.shape[1]


def test_sprite_is_trimmed_to_the_figure():
    alpha = paint(PERSON, FRONT).alpha > 0.5
    assert alpha[0].any() and alpha[-1].any() and alpha[:, 0].any() and alpha[:, -1].any()


def test_figure_scales_with_the_camera():
    small, large = paint(PERSON, FRONT, scale=30), paint(PERSON, FRONT, scale=90)
    assert large.alpha.sum() == pytest.approx(9 * small.alpha.sum(), rel=0.05)


def test_side_view_is_narrower_and_a_stride_is_wider():
    widths = [paint(PERSON, yaw).alpha.shape[1] for yaw in (FRONT, SIDE)]
    assert widths[1] < 0.8 * widths[0]
    assert paint(PERSON, SIDE, stride=1.0).alpha.shape[1] > 1.5 * widths[1]


def test_backpack_is_seen_from_behind_and_its_straps_from_the_front():
    person = replace(PERSON, bag='backpack')
    behind, front = (count(paint(person, yaw), RED) for yaw in (BACK, FRONT))
    assert behind > 2 * front > 0


def test_open_jacket_shows_what_is_under_it_from_the_front_only():
    person = replace(PERSON, pattern='open')
    assert count(paint(person, FRONT), GREEN) > 50
    assert count(paint(person, BACK), GREEN) == 0


@pytest.mark.parametrize('pattern', ['stripes', 'pinstripes', 'check', 'block', 'logo'])
def test_patterns_show_both_colours(pattern):
    sprite = paint(replace(PERSON, pattern=pattern, top=RED), FRONT)
    assert count(sprite, GREEN) > 30 and count(sprite, RED) > 30


@pytest.mark.parametrize('kind', ['shorts', 'skirt'])
def test_short_clothes_show_less_of_their_colour_than_trousers(kind):
    assert count(paint(replace(PERSON, bottom_kind=kind), FRONT), BLUE) < 0.7 * count(paint(PERSON, FRONT), BLUE)


def test_walking_moves_the_limbs_but_keeps_their_length():
    still, walking = (pose_joints(replace(pose(SIDE, stride), tilt=0.0), PERSON) for stride in (0.0, 1.0))
    for start, end in (('l_hip', 'l_knee'), ('r_knee', 'r_ankle'), ('l_shoulder', 'l_elbow')):
        lengths = [np.linalg.norm(joints[end] - joints[start]) for joints in (still, walking)]
        assert lengths[0] == pytest.approx(lengths[1])
    assert not np.allclose(still['l_ankle'], walking['l_ankle'], atol=0.05)


def test_turning_round_swaps_left_and_right():
    front, back = (pose_joints(pose(yaw), PERSON) for yaw in (FRONT, BACK))
    assert front['l_shoulder'][0] > 0 > back['l_shoulder'][0]
    assert front['l_shoulder'][0] == pytest.approx(-back['l_shoulder'][0])
