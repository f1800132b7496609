"""The page about timers and ticks is one program, and it runs."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "timers.md"


def test_the_program_of_the_page_runs() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 3
    # The functions of a module: their annotations are found by its names.
    names = {"__name__": "timers_page"}
    exec(compile("\n".join(blocks), str(PAGE), "exec"), names)
