"""The commands that the documentation tells to type."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# In the order in which a reader meets them, and in which their commands are run.
FIRST = ['README.md', 'docs/get_started.md', 'docs/training.md', 'docs/own_data.md']
OTHERS = sorted(str(path.relative_to(ROOT)) for path in [ROOT / 'CONTRIBUTING.md', *ROOT.glob('docs/*.md')])
PAGES = [*FIRST, *(page for page in OTHERS if page not in FIRST)]
BLOCK = re.compile(r'^```(\w+)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
INLINE = re.compile(r'`((?:\.venv/bin/)?python [\w./-]+\.py[^`\n]*|tools/[\w/]+\.(?:py|sh) [^-`.][^`.]*)`')
NAMED_FILE = re.compile(r'^`([\w./-]+)`[^\n]*:\n\n```\w+\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def read(page: str) -> str:
    """Text of a page, whose path is relative to the root."""
    return (ROOT / page).read_text()


def commands(page: str) -> list[list[str]]:
    """All commands of a page's shell blocks, as lists of words."""
    blocks = (text for language, text in BLOCK.findall(read(page)) if language in ('shell', 'bash'))
    return [command for text in blocks for command in split(text)]


def inline_commands(page: str) -> list[list[str]]:
    """Commands in running text."""
    return [command for text in INLINE.findall(read(page)) for command in split(text)]


def scripts(page: str) -> list[str]:
    """Python blocks that stand by themselves: they import what they use."""
    blocks = (text for language, text in BLOCK.findall(read(page)) if language == 'python')
    return [text for text in blocks if re.match('import |from ', text)]


def named_files(page: str) -> dict[str, str]:
    """Files whose content a page shows, by their names."""
    return dict(NAMED_FILE.findall(read(page)))


def split(text: str) -> Iterator[list[str]]:
    """Simple commands, without the variables before them and without [optional arguments]."""
    for line in text.replace('\\\n', ' ').splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = words.index('&&') if '&&' in words else len(words)
            command, words = words[:end], words[end + 1 :]
            while re.match(r'[A-Z_]+=', command[0]):
                command.pop(0)
            if command[0].endswith('.py'):
                command.insert(0, 'python')
            command[0] = command[0].removeprefix('.venv/bin/')
            yield [word for word in command if not word.startswith('[')]
