"""kill -9 of the import, the app and the export at random moments: each input row counts once."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamkit import Consumer, TopicPartition

KILLS = 1000 if os.environ.get("STREAMKIT_SOAK") else 50
ROWS_A_STEP = 50
STEP_SECONDS = 0.01

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800 if KILLS > 50 else 300)]

APP = """
from msgspec import Struct
from streamkit import App, State

class Row(Struct):
    id: str
    number: int

class Seen(Struct):
    id: str
    number: int
    times: int

app = App("kills")
lines = app.stream("lines", Row)
rows = app.stream("rows", Row)

@lines.by("id").process(to="lines-out")
def line(row: Row, times: State[int]) -> Seen:
    times.set(times.get(0) + 1)
    return Seen(row.id, row.number, times.get(0))

@rows.process(to="rows-out")
def row(row: Row) -> Seen:
    return Seen(row.id, row.number, 1)
"""

SOURCES = """
[worker]
"group.id" = "sources"

[connectors.lines]
"connector.class" = "FileSource"
path = "drop"
pattern = "*.jsonl"
topic = "lines"
"key.fields" = ["id"]
"poll.interval" = "10ms"
"topic.creation.default.partitions" = 3

[connectors.rows]
"connector.class" = "SqlSource"
"connection.url" = "sqlite:///input.db"
tables = ["rows"]
mode = "incrementing"
"incrementing.column" = "number"
"key.fields" = ["id"]
"poll.interval" = "10ms"
"topic.creation.default.partitions" = 3
"""

SINKS = """
[worker]
"group.id" = "sinks"

[connectors.tables]
"connector.class" = "SqlSink"
"connection.url" = "sqlite:///results.db"
topics = ["lines-out", "rows-out"]
"insert.mode" = "upsert"
"pk.mode" = "record_value"
"pk.fields" = ["id"]

[connectors.file]
"connector.class" = "FileSink"
path = "files"
topics = ["lines-out"]
"""


class Fleet:
    """The three processes; any of them can be killed and started again."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.commands = {
            "sources": ["connect", "sources.toml"],
            "app": ["run", "app.py"],
            "sinks": ["connect", "sinks.toml"],
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        with open(self.home / f"{name}.out", "ab") as messages:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "streamkit", "--log", "log", *self.commands[name]],
                cwd=self.home,
                stdout=messages,
                stderr=messages,
            )

    def kill(self, name: str) -> None:
        process = self.processes[name]
        code = process.poll()
        assert code is None, f"{name} ended by itself ({code}):\n{self.messages(name)}"
        process.send_signal(signal.SIGKILL)
        process.wait()

    def messages(self, name: str) -> str:
        return (self.home / f"{name}.out").read_text()[-3000:]

    def stop(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            process.wait(timeout=30)


class Inputs:
    """A file and a table that grow all the time, so that whoever is killed is killed at work."""

    def __init__(self, home: Path) -> None:
        (home / "drop").mkdir()
        self.written = 0
        self._home = home
        self._over = threading.Event()
        db = sqlite3.connect(home / "input.db")
        db.execute("CREATE TABLE rows (id TEXT, number INTEGER PRIMARY KEY)")
        db.commit()
        db.close()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self) -> None:
        db = sqlite3.connect(self._home / "input.db", timeout=30)
        with open(self._home / "drop" / "lines.jsonl", "a") as file:
            while not self._over.wait(STEP_SECONDS):
                numbers = range(self.written + 1, self.written + ROWS_A_STEP + 1)
                for number in numbers:
                    file.write(json.dumps({"id": f"é{number}", "number": number}) + "\n")
                file.flush()
                db.executemany("INSERT INTO rows VALUES (?, ?)", [(f"é{n}", n) for n in numbers])
                db.commit()
                self.written += ROWS_A_STEP
        db.close()

    def end(self) -> None:
        self._over.set()
        self._thread.join()


def exported(home: Path, table: str) -> list[tuple[str, int]]:
    db = sqlite3.connect(home / "results.db", timeout=30)
    try:
        return db.execute(f'SELECT id, number FROM "{table}" ORDER BY number').fetchall()
    except sqlite3.OperationalError:  # not created yet
        return []
    finally:
        db.close()


def published(home: Path, topic: str) -> list[dict[str, Any]]:
    """All records of a topic, partition by partition."""
    found = []
    for partition in range(3):
        chosen = [TopicPartition(topic, partition)]
        with Consumer(str(home / "log"), partitions=chosen) as consumer:
            found += [json.loads(record.value) for record in consumer.until_end()]
    return found


def eventually(what: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(0.1)
    return what()


def test_each_row_counts_once_after_many_kills(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    dice = random.Random(seed)
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "sources.toml").write_text(SOURCES)
    (tmp_path / "sinks.toml").write_text(SINKS)
    inputs = Inputs(tmp_path)
    fleet = Fleet(tmp_path)
    for name in fleet.commands:
        fleet.start(name)
    try:
        for _ in range(KILLS):
            time.sleep(dice.uniform(0.0, 1.6))  # a process begins to work after about half a second
            name = dice.choice(list(fleet.commands))
            fleet.kill(name)
            fleet.start(name)
        inputs.end()
        print(inputs.written, "rows")
        expected = [(f"é{n}", n) for n in range(1, inputs.written + 1)]
        for table in ("lines-out", "rows-out"):
            eventually(lambda table=table: exported(tmp_path, table) == expected, 60)
            assert exported(tmp_path, table) == expected, fleet.messages("sinks")
    finally:
        inputs.end()
        fleet.stop()

    once = Counter(f"é{n}" for n in range(1, inputs.written + 1))
    for topic in ("lines", "lines-out", "rows", "rows-out"):
        assert Counter(record["id"] for record in published(tmp_path, topic)) == once
    assert all(record["times"] == 1 for record in published(tmp_path, "lines-out"))

    # What the file sink wrote is the topic, record for record: it never repeats or leaves out.
    for partition in range(3):
        chosen = [TopicPartition("lines-out", partition)]
        with Consumer(str(tmp_path / "log"), partitions=chosen) as consumer:
            results = [record.value for record in consumer.until_end()]
        written = (tmp_path / "files" / f"lines-out-{partition}.jsonl").read_bytes().splitlines()
        assert written == results
