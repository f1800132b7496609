"""The small examples do what they say."""

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_no_app(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "no_app.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout == "1000 readings, 22.0 degrees on average\nstill to read: 0\n"


def test_words(tmp_path: Path) -> None:
    def streamkit(*arguments: str, stdin: str = "") -> str:
        return subprocess.run(
            [sys.executable, "-m", "streamkit", "--log", "log", *arguments],
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    streamkit("topics", "create", "lines")
    streamkit("produce", "lines", stdin="to be or not to be\n")
    streamkit("run", str(EXAMPLES / "words.py"), "--until-end")
    assert streamkit("consume", "words").split() == ["to", "be", "or", "not", "to", "be"]
