"""Steps that the scripts of the environment share: lines of progress, errors, pip."""

import subprocess
import sys
from pathlib import Path
from typing import NoReturn


def say(text: str) -> None:
    """Print a line of progress."""
    print(f'[env] {text}', flush=True)


def fail(text: str) -> NoReturn:
    """Print one line and leave with exit code 1."""
    sys.exit(f'error: {text}')


def run(command: list) -> None:
    """Run a command that shows its own errors; stop if it fails."""
    command = [str(part) for part in command]
    code = subprocess.call(command)
    if code:
        fail(f'`{" ".join(command)}` ended with code {code}: its message is above; mend that and run again')


def pip_install(venv: Path, *args: object) -> None:
    """Run ``pip install``, with pip's progress bars on a terminal and without a word elsewhere."""
    quiet = [] if sys.stdout.isatty() else ['-qq']
    # requirements/openmmlab.txt leaves out dependencies on purpose: no warning of those.
    options = ['--disable-pip-version-check', '--no-warn-conflicts', *quiet]
    run([venv / 'bin' / 'python', '-m', 'pip', 'install', *options, *args])
