"""Tools in the process of the tests."""

import runpy
import signal
import sys

import pytest


@pytest.fixture
def run_tool(monkeypatch, repo_root):
    """Run a tool in this process, whose signal handlers stay; gives what it ends with: its exit code or message."""

    def run(tool, *arguments):
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with pytest.raises(SystemExit) as stopped:
                runpy.run_path(str(repo_root / 'tools' / tool), run_name='__main__')
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return stopped.value.code

    return run
