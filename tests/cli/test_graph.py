"""`streamkit graph`, as somebody types it."""

import json
import subprocess
import sys
from pathlib import Path

APP = """
from streamkit import App
app = App("hello")
lines = app.stream("lines", str)

@lines.process(to="words")
def words(line: str) -> str:
    return line
"""


def graph(folder: Path, *arguments: str) -> str:
    (folder / "app.py").write_text(APP)
    command = [sys.executable, "-m", "streamkit", "graph", "app.py", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def test_the_graph_of_an_app_is_a_tree_unless_asked_otherwise(tmp_path: Path) -> None:
    assert "  lines: str\n  └─ process words  [words (app.py:6)]\n" in graph(tmp_path)
    assert graph(tmp_path, "--format", "mermaid").startswith("flowchart LR\n")
    assert not (tmp_path / "streamkit-data").exists(), "nobody needs a log for it"


def test_a_graph_as_json_names_every_step_and_what_it_follows(tmp_path: Path) -> None:
    drawn = json.loads(graph(tmp_path, "--json"))
    assert (drawn["app"], drawn["sources"], drawn["sinks"]) == ("hello", ["lines"], ["words"])
    (part,) = drawn["subtopologies"]
    kinds = [(step["kind"], step["name"], step["after"]) for step in part["steps"]]
    assert kinds == [("stream", "lines", []), ("process", "words", [0]), ("to", "words", [1])]
    assert part["steps"][1]["function"] == "words (app.py:6)"
    assert drawn["topics"]["words"] == {"key": "str | None", "value": "str"}
