"""The API reference can be built from the docstrings, without a warning, and is all there."""

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import streamkit
import streamkit.connect
import streamkit.processors
import streamkit.testing

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()


def test_every_public_name_is_in_the_reference(tmp_path: Path) -> None:
    modules = re.search(r"^API := (.*)$", MAKEFILE, re.MULTILINE)
    command = re.search(r"python (.* -m pdoc .*) -o build/api", MAKEFILE)
    assert modules is not None and command is not None
    built = subprocess.run(
        [sys.executable, *command[1].split(), "-o", str(tmp_path), *modules[1].split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert built.stderr == ""
    for module in (streamkit, streamkit.connect, streamkit.processors):
        page = tmp_path.joinpath(*module.__name__.split(".")).with_suffix(".html").read_text()
        missing = {name for name in module.__all__ if f'id="{name}"' not in page}
        assert missing <= {"__version__"}, module.__name__
    page = (tmp_path / "streamkit.html").read_text()
    shown = set(re.findall(r'id="([A-Za-z_]+\.[a-z_]+)"', page))
    for name in ("Stream.process", "Stream.join_as_of", "Stream.count", "Step.on_timer"):
        assert name in shown
    for class_ in (streamkit.Stream, streamkit.Step, streamkit.WindowedStream, streamkit.Table):
        public = {name for name in dir(class_) if not name.startswith("_")} - {"node"}
        assert {f"{class_.__name__}.{name}" for name in public} <= shown


def undocumented(name: str, public: Any) -> Iterator[str]:
    """What a reader would find without a word: a class or function, or something of a class."""
    if not inspect.getdoc(public):
        yield name
    if inspect.isclass(public):
        for own, member in inspect.getmembers(public, lambda one: callable(one) or is_asked(one)):
            home = getattr(getattr(member, "fget", member), "__module__", "") or ""
            if own[0] != "_" and home.startswith("streamkit.") and not inspect.getdoc(member):
                yield f"{name}.{own}"


def is_asked(one: Any) -> bool:
    return isinstance(one, property)


@pytest.mark.parametrize(
    "module",
    [streamkit, streamkit.connect, streamkit.processors, streamkit.testing],
    ids=lambda module: module.__name__,
)
def test_nothing_in_the_reference_is_without_a_word(module: Any) -> None:
    every_one = {name: getattr(module, name) for name in module.__all__}
    named = {name: it for name, it in every_one.items() if inspect.isclass(it) or callable(it)}
    assert len(named) > 1
    assert [each for name, it in named.items() for each in undocumented(name, it)] == []
