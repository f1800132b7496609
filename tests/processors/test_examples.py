"""Every ready-made step has an example, which prints what it says."""

import ast
import subprocess
import sys
from pathlib import Path
from re import DOTALL, MULTILINE, findall
from textwrap import dedent

import pytest

from streamkit import processors

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples" / "processors").glob("*.py"))
SHARED = {"__init__", "fields", "times"}
"""Modules that are no steps themselves."""


def test_every_step_has_one() -> None:
    steps = {path.stem for path in (ROOT / "processors").glob("*.py")} - SHARED
    assert steps == {path.stem for path in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_it_prints_what_it_says(example: Path) -> None:
    said = ast.get_docstring(ast.parse(example.read_text())) or ""
    _, _, expected = said.partition("\n\n")
    done = subprocess.run(
        [sys.executable, str(example)], check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == dedent(expected).splitlines()


def test_the_page_about_them_names_all_and_does_what_it_says() -> None:
    page = ROOT / "docs" / "processors.md"
    program = "\n".join(findall(r"^```python\n(.*?)^```$", page.read_text(), MULTILINE | DOTALL))
    steps = {name for name in processors.__all__ if name.islower()}
    assert steps == {name for name in steps if f"{name}(" in program}
    # The functions of a module: their annotations are found by its names.
    exec(compile(program, str(page), "exec"), {"__name__": "processors_page"})
