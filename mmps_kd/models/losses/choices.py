"""Check of config values that name one of a few ways."""

from collections.abc import Iterable

from mmps_kd.errors import UserError


def check_choice(key: str, value: str, choices: Iterable[str]) -> None:
    """Raise :class:`UserError` with the list of choices if ``value`` is none of them."""
    choices = list(choices)
    if value not in choices:
        raise UserError(f'{key}={value!r} does not exist: choose one of {", ".join(choices)}')
