"""The small examples do what they say."""

import sqlite3
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


def test_orders(tmp_path: Path) -> None:
    (tmp_path / "incoming").mkdir()
    for day, rows in {"monday": "1,ada,250\n2,bob,3\n", "tuesday": "3,ada,40\n"}.items():
        (tmp_path / "incoming" / f"{day}.csv").write_text(f"id,customer,amount\n{rows}")
        command = ["-m", "streamkit", "run", str(EXAMPLES / "orders.py"), "--until-end"]
        subprocess.run([sys.executable, *command], cwd=tmp_path, check=True)
    db = sqlite3.connect(tmp_path / "shop.db")
    found = db.execute("SELECT customer, orders, total FROM spent ORDER BY customer").fetchall()
    db.close()
    assert found == [("ada", 2, 290.0), ("bob", 1, 3.0)]
