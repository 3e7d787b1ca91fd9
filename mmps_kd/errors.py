"""Errors that a user can cause and mend."""

import sys
from collections.abc import Callable
from typing import NoReturn


class UserError(ValueError):
    """Wrong data, config value or file: one line that names it and says what to do.

    The tools print its message alone and exit with code 1; from Python it is an ordinary ``ValueError``.
    """


def run_tool(main: Callable[[], None]) -> NoReturn:
    """Run a command-line tool: a :class:`UserError` becomes one line on stderr and exit code 1."""
    try:
        main()
    except UserError as error:
        sys.exit(f'error: {error}')
    sys.exit(0)
