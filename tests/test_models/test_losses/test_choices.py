import pytest

from mmps_kd.errors import UserError
from mmps_kd.models.losses.choices import check_choice


def test_known_value_passes():
    assert check_choice('mode', 'ce', ['ce', 'kl']) is None


def test_unknown_value_lists_the_choices():
    with pytest.raises(UserError, match="^mode='mse' does not exist: choose one of ce, kl$"):
        check_choice('mode', 'mse', iter(['ce', 'kl']))
