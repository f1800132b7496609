"""The API reference can be built from the docstrings, without a warning, and is all there."""

import re
import subprocess
import sys
from pathlib import Path

import streamkit
import streamkit.connect
import streamkit.processors

MAKEFILE = (Path(__file__).parents[2] / "Makefile").read_text()


def test_every_public_name_is_in_the_reference(tmp_path: Path) -> None:
    modules = re.search(r"^API := (.*)$", MAKEFILE, re.MULTILINE)
    assert modules is not None
    built = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pdoc", "-o", str(tmp_path), *modules[1].split()],
        capture_output=True,
        text=True,
        check=True,
    )
    assert built.stderr == ""
    for module in (streamkit, streamkit.connect, streamkit.processors):
        page = tmp_path.joinpath(*module.__name__.split(".")).with_suffix(".html").read_text()
        missing = {name for name in module.__all__ if f'id="{name}"' not in page}
        assert missing <= {"__version__"}, module.__name__
