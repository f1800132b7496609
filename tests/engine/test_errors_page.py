"""The page about errors is one program, and it runs."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


def test_the_program_of_the_page_runs() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 3
    code = compile("\n".join(blocks), str(PAGE), "exec")
    exec(code, {"__name__": "errors_page"})
