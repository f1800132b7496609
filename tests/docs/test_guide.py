"""Every snippet of the guide runs, and does what the page says.

A page has a folder of its own. A block of Python that begins with `# name.py` is that file, others
are programs; a console block has commands after `$`, and what they print, where `...` stands for
anything. At the end pytest runs the page's tests.
"""

import os
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guide"
PAGES = sorted(GUIDE.glob("*.md"))

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(command: list[str] | str, folder: Path) -> str:
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        command,
        shell=isinstance(command, str),
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k != "STREAMKIT_LOG"} | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert isinstance(command, str) or done.returncode == 0, done.stdout + done.stderr
    # What goes well has its notes on stderr.
    return done.stdout + (done.stderr if done.returncode else "")


def transcript(block: str) -> list[tuple[str, str]]:
    """The commands of a console block, and what they print."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)
    assert not parts[0].strip(), "a console block begins with a command"
    return list(zip(parts[1::2], parts[2::2], strict=True))


def is_like(printed: str, said: str) -> bool:
    pattern = re.sub(r"([\[\]?*])", r"[\1]", said.strip()).replace("...", "*")
    return fnmatchcase(printed.strip(), pattern)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    # The command `streamkit`, wherever it was installed.
    command = tmp_path / "bin" / "streamkit"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m streamkit "$@"\n')
    command.chmod(0o755)
    for language, block in _FENCED.findall(page.read_text()):
        if language == "python":
            name = re.match(r"# (\w+\.py)\n", block)
            if name:
                (tmp_path / name[1]).write_text(block)
            else:
                run([sys.executable, "-W", "error", "-c", block], tmp_path)
        elif language == "console":
            for line, said in transcript(block):
                printed = run(line, tmp_path)
                assert is_like(printed, said), f"$ {line}\n{printed}"
        else:
            assert language in ("mermaid", ""), f"a block of {language} that nothing runs"
    if list(tmp_path.glob("test_*.py")):
        run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], tmp_path)


def test_each_page_leads_to_the_next() -> None:
    for page, following in pairwise(PAGES):
        assert f"]({following.name})" in page.read_text(), page.name


@pytest.mark.parametrize(
    ("printed", "said", "like"),
    [
        ("a\n", "a\n", True),
        ("a [1]", "a [1]", True),
        ("a 17 b", "a ... b", True),
        ("b", "a", False),
    ],
)
def test_what_is_printed_is_held_against_what_is_said(printed: str, said: str, like: bool) -> None:
    assert is_like(printed, said) is like
