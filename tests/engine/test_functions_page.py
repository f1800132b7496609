"""The page about functions that wait is one program, and it runs."""

import re
from pathlib import Path
from types import ModuleType

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "functions.md"


def test_the_program_of_the_page_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 3
    module = ModuleType("functions_page")
    monkeypatch.setitem(__import__("sys").modules, "functions_page", module)
    exec(compile("\n".join(blocks), str(PAGE), "exec"), module.__dict__)
