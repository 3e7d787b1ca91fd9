"""Mutations of files, and the judge of what reading them may do."""

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from mmps_kd.errors import UserError

MEGABYTES = 512  # that a reader of a few kilobytes may ask for
SECONDS = 20  # after which a reader hangs
EXTREMES = [b'\0' * 4, b'\xff' * 4, b'\xff\xff\xff\x7f', b'\0\0\0\x80', b'\xff' * 8, b'../x', b'\n\x1b[', b'9' * 12]


class Hang(BaseException):
    """Nothing that a reader catches."""


def mutate_bytes(rng: np.random.Generator, content: bytes) -> bytes:
    """Flip, overwrite, cut out, insert, repeat or swap pieces, or cut off the end: one to four times."""
    for _ in range(rng.integers(1, 5)):
        start, stop = sorted(rng.integers(0, len(content) + 1, 2).tolist())
        piece, short = content[start:stop], content[start : start + int(rng.integers(1, 9))]
        extreme = EXTREMES[rng.integers(len(EXTREMES))]
        flipped = bytes(byte ^ 1 << int(rng.integers(8)) for byte in short[:1])
        content = [
            content[:start] + flipped + content[start + 1 :],
            content[:start] + flipped + content[start + 1 :],
            content[:start] + extreme + content[start + len(extreme) :],
            content[:start] + rng.bytes(len(short)) + content[start + len(short) :],
            content[:start] + content[start + len(short) :],
            content[:start] + rng.bytes(4) + content[start:],
            content[:stop] + piece[:64] + content[stop:],
            content[:start] if rng.random() < 0.3 else content[:start] + content[stop:],
        ][rng.integers(8)]
    return content


@contextmanager
def bounded() -> Iterator[None]:
    """Memory and time that reading a small file may take; more memory is a MemoryError, more time a :class:`Hang`."""
    in_use = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (in_use + (MEGABYTES << 20), limits[1]))
    previous = signal.signal(signal.SIGALRM, _raise_hang)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _raise_hang(*_) -> None:
    raise Hang


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@pytest.fixture
def judge() -> Callable:
    """``judge(read, name)``: True if ``read()`` gave a UserError, False if it gave a value; all else fails the test."""

    def run(read: Callable, name: str, may_ask_for_memory: bool) -> bool:
        try:
            with bounded():
                read()
        except UserError as error:
            refused = any(isinstance(cause, MemoryError) for cause in causes(error))
            assert may_ask_for_memory or not refused, f'{name} asked for more than {MEGABYTES} MB: {error!r}'
            return True
        except (Exception, Hang) as error:
            raise AssertionError(f'{name}: {type(error).__name__}: {error}') from error
        return False

    return run


@pytest.fixture
def fuzz(judge: Callable) -> Callable:
    """``fuzz(path, read, rounds, mutate)``: replace the file by mutations and read each; gives the number of errors.

    With ``may_ask_for_memory``, a reader may ask for what a file claims to need, as long as it gives up when refused.
    """

    def run(
        path: Path, read: Callable, rounds: int, mutate: Callable = mutate_bytes, may_ask_for_memory: bool = False
    ) -> int:
        original, errors = path.read_bytes(), 0
        for seed in range(rounds):
            path.write_bytes(mutate(np.random.default_rng(seed), original))
            errors += judge(read, f'{path.name}, {mutate.__name__} {seed}', may_ask_for_memory)
        path.write_bytes(original)
        assert not judge(read, f'{path.name} as it was', False)
        return errors

    return run


@pytest.fixture(name='mutate_bytes')
def mutate_bytes_fixture() -> Callable:
    """:func:`mutate_bytes`, for mutations below a file's compression."""
    return mutate_bytes
