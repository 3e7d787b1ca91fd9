"""Run Python scripts one after another, each in a fork of a process that has imported what takes long to import.

Reads a command a line, as a JSON list of words (script, arguments), and answers with a line each: a JSON list of its
exit code and its output.
"""

import contextlib
import json
import os
import runpy
import sys
import tempfile
import traceback
from pathlib import Path

# The maintained fork of MMDetection greets on the standard output, where answers go.
with contextlib.redirect_stdout(sys.stderr):
    import mmps_kd  # noqa: F401


def become(words: list[str], output: int) -> int:
    """Run a script as Python does, in this process; give its exit code."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = words
    sys.path[0] = str(Path(words[0]).resolve().parent)
    try:
        runpy.run_path(words[0], run_name='__main__')
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code)
            return 1
        return stop.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def run(words: list[str]) -> tuple[int, str]:
    """Run a script in a fork."""
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            code = become(words, output.fileno())
            sys.stdout.flush()
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        return code, output.read().decode(errors='replace')


def main() -> None:
    """Answer until there are no more commands."""
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


if __name__ == '__main__':
    main()
