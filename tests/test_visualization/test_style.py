"""Colours that tell people apart, and letters that can be read on them."""

import numpy as np
import pytest

from mmps_kd.visualization.style import INK, MUTED, PAPER, font, identity_colour, readable_on


def test_colours_are_the_same_in_every_picture():
    # Hue 0, then 0.618 of the circle on: written down, so that pictures of two releases can be compared.
    assert identity_colour(0) == (194, 10, 10)
    assert identity_colour(1) == (37, 97, 244)
    assert identity_colour(-1) == identity_colour(-2) == MUTED


def test_neighbouring_identities_differ():
    colours = np.array([identity_colour(pid) for pid in range(40)], dtype=int)
    for window in (colours[start : start + 6] for start in range(34)):
        distances = np.abs(window[:, None] - window[None]).sum(axis=2) + 999 * np.eye(6)
        assert distances.min() > 60


def test_no_identity_is_grey():
    colours = np.array([identity_colour(pid) for pid in range(1000)])
    assert (np.ptp(colours, axis=1) > 100).all()


@pytest.mark.parametrize('colour', [identity_colour(pid) for pid in range(-1, 100)])
def test_letters_stand_out(colour):
    def luminance(rgb):
        channels = np.array(rgb) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    letters = readable_on(colour)
    assert letters in (INK, PAPER)
    dark, light = sorted((luminance(colour), luminance(letters)))
    assert (light + 0.05) / (dark + 0.05) > 3.4


def test_letters_come_with_the_package():
    assert font(14).getlength('✓') > 0
    assert font(14, bold=True).getname() == ('DejaVu Sans', 'Bold')
