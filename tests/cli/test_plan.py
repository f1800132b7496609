"""`streamkit plan`, as somebody types it before starting changed code."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

APP = """
from streamkit import App, State
app = App("shop")

@app.stream("orders", str).process
def count(order: str, seen: State[int]) -> None:
    seen.set(seen.get(0) + 1)
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(*arguments: str, code: int, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "streamkit", "--log", "log", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, input=stdin, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    (tmp_path / "app.py").write_text(APP)
    run("topics", "create", "orders", code=0)
    run("produce", "orders", "--key-separator", ":", stdin="k:x\n", code=0)
    return run


def test_a_change_is_said_refused_and_then_accepted_or_forgotten(run: Run, tmp_path: Path) -> None:
    assert "has not run on this log yet" in run("plan", "app.py", code=1).stdout
    run("run", "app.py", "--until-end", code=0)
    assert "goes on with what it has" in run("plan", "app.py", code=0).stdout

    (tmp_path / "app.py").write_text(APP.replace("def count", "def count("))
    assert "app.py:6" in run("plan", "app.py", code=2).stderr  # 1 would say: safe

    (tmp_path / "app.py").write_text(APP.replace("def count", "def total"))
    out = run("plan", "app.py", code=2).stdout
    assert "UNSAFE" in out and "give total name='count'" in out
    refused = run("run", "app.py", "--until-end", code=1).stderr
    assert "give total name='count'" in refused and "Traceback" not in refused

    found = json.loads(run("plan", "app.py", "--json", code=2).stdout)
    (orphan,) = [change for change in found["changes"] if change["what"] == "orphaned"]
    assert (orphan["subject"], orphan["risk"]) == ("count-seen", "unsafe")
    assert (found["risk"], found["create"]) == ("unsafe", {"shop-total-seen-changelog": 1})

    told = run("plan", "app.py", "--forget", "count-seen", code=1).stderr
    assert "deleted shop-count-seen-changelog" in told
    run("run", "app.py", "--until-end", code=0)

    (tmp_path / "app.py").write_text(APP)
    run("run", "app.py", "--until-end", "--accept", code=0)
    run("plan", "app.py", code=0)


def test_where_there_is_no_log_yet_everything_is_new_and_none_is_made(
    run: Run, tmp_path: Path
) -> None:
    planned = run("--log", "nowhere", "plan", "app.py", code=1)
    assert "nowhere" in planned.stderr and "everything is new" in planned.stderr
    assert "orders" in planned.stdout and "is not there yet: the app waits" in planned.stdout
    assert not (tmp_path / "nowhere").exists()
    assert "nowhere" in run("--log", "nowhere", "plan", "app.py", "--forget", "x", code=2).stderr
