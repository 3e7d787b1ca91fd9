"""Errors that a user can cause and fix."""

import errno
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterable
from typing import NoReturn

LONGEST_MESSAGE = 1000


class UserError(ValueError):
    """Wrong data, config value or file: one line that names it and says what to do.

    The tools print its message alone and exit with code 1; from Python it is an ordinary ``ValueError``.

    Args:
        *messages: Usually one; of several that were found in one data set, the first is shown.

    Attributes:
        messages: All of them, as ``check_dataset.py`` lists them.
    """

    def __init__(self, *messages: str) -> None:
        more = len(messages) - 1
        super().__init__(messages[0] + (f' ({more} more: check_dataset.py lists all)' if more else ''))
        self.messages = messages


def check_choice(key: str, value: str, choices: Iterable[str]) -> None:
    """Raise :class:`UserError` with the list of choices if ``value`` is none of them."""
    choices = list(choices)
    if value not in choices:
        raise UserError(f'{key}={value!r} does not exist: choose one of {", ".join(choices)}')


def run_tool(main: Callable[[], None]) -> NoReturn:
    """Run a command-line tool.

    A :class:`UserError`, a full disk and an optional package that is missing become one line on stderr and exit code 1.
    """
    try:
        main()
    except UserError as error:
        sys.exit(f'error: {_one_line(error)}')
    except ImportError as error:
        if 'pip install' not in str(error):
            raise
        sys.exit(f'error: {error}')  # an optional package, such as tensorboard
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sys.exit(f'error: {error}: make room, then start again')
    sys.exit(0)


def interrupt_at_signals() -> None:
    """Stop at SIGINT and SIGTERM as at Ctrl-C; a shell may have started this process with Ctrl-C ignored.

    The signal is the argument of the ``KeyboardInterrupt``.
    """

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number))

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)


def _one_line(error: UserError) -> str:
    r"""The message; of an error in a process that loads data, torch hands on the traceback, which ends with it.

    Names in it may come from a file that anybody made: what would move the cursor or fill the screen is left out. A
    space other than U+0020 and an invisible character are shown as an escape, such as ``\u3000``.
    """
    message = str(error)
    if message.startswith('Caught '):
        message = message.splitlines()[-1].partition(': ')[2]
    return ''.join(map(_visible, message))[:LONGEST_MESSAGE]


def _visible(letter: str) -> str:
    if letter.isprintable():
        return letter
    return letter.encode('unicode_escape').decode() if unicodedata.category(letter) in ('Zs', 'Cf') else ' '
