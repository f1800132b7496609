"""`streamkit run --reload`: what is saved runs, and what is broken is shown and waited for."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamkit.backends.locate import open_backend
from streamkit.cli.reload import Files
from streamkit.records import TopicPartition

APP = """
from streamkit import App
from words import WORD

app = App("shop")

@app.stream("orders", str).process(to="marked")
def mark(order: str) -> str:
    if order == "poison":
        raise ValueError("cannot mark")
    return f"{WORD} {order}"
"""


def save(path: Path, text: str) -> None:
    """As editors do: what is there is replaced at once. All is saved in one second."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.utime(new, (10**9, 10**9))
    new.replace(path)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator["Shop"]:
    with open_backend(tmp_path / "log") as log:
        log.create_topic("orders")
        save(tmp_path / "app.py", APP)
        save(tmp_path / "words.py", "WORD = 'first'\n")
        with open(tmp_path / "err", "w") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "streamkit", "--log", "log", "run", "app.py", "--reload"],
                cwd=tmp_path,
                stderr=err,
            )
            try:
                yield Shop(tmp_path, log, process)
            finally:
                process.kill()
                process.wait()


class Shop:
    def __init__(self, home, log, process):
        self.home = home
        self.process = process
        self._log = log

    def order(self, text: str) -> None:
        self._log.append(TopicPartition("orders", 0), [text.encode()])

    def marked(self) -> list[bytes]:
        if "marked" not in self._log.topics():
            return []
        batches = self._log.fetch({TopicPartition("marked", 0): 0})
        return [record.value for batch in batches for record in batch.records()]

    def said(self) -> str:
        return (self.home / "err").read_text()

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, self.said()
            assert self.process.poll() is None, self.said()
            time.sleep(0.05)


def test_an_app_begins_again_with_what_was_saved_however_broken_it_was_meanwhile(
    shop: Shop,
) -> None:
    shop.order("one")
    shop.until(lambda: shop.marked() == [b"first one"])

    save(shop.home / "words.py", "WORD = 'other'\n")
    shop.until(lambda: "words.py changed: beginning again" in shop.said())
    shop.order("two")
    shop.until(lambda: shop.marked()[1:] == [b"other two"])

    save(shop.home / "app.py", APP + "\nif:\n")
    shop.until(lambda: "invalid syntax" in shop.said())
    shop.order("poison")
    save(shop.home / "app.py", APP)
    shop.until(lambda: "ValueError: cannot mark" in shop.said())
    assert "raise ValueError" in shop.said(), "the line is shown"
    save(shop.home / "app.py", APP.replace('"poison"', '"other"'))
    shop.until(lambda: shop.marked()[2:] == [b"other poison"])

    shop.process.send_signal(signal.SIGINT)
    assert shop.process.wait(60) == 130, shop.said()


def test_a_stop_ends_it_also_while_it_waits_for_a_change(shop: Shop) -> None:
    shop.order("poison")
    shop.until(lambda: "waiting for a change of the app's files" in shop.said())
    shop.process.send_signal(signal.SIGTERM)
    assert shop.process.wait(60) == 0, shop.said()


def test_files_that_come_go_or_change_are_seen_and_others_are_not(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    save(app, "")
    files = Files(str(app))
    assert files.changed() is None
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "streamkit-data").mkdir()
    assert files.changed() is None
    save(tmp_path / "new.py", "")
    assert files.changed() == str(tmp_path / "new.py")
    assert files.changed() is None
    os.utime(app, (1, 1))
    assert files.changed() == str(app)
    (tmp_path / "new.py").unlink()
    assert files.changed() == str(tmp_path / "new.py")
    assert files.changed() is None
