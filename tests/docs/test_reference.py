"""The API reference can be built from the docstrings, without a warning, and is all there."""

import re
import subprocess
import sys
from pathlib import Path

import streamkit
import streamkit.connect
import streamkit.processors

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
