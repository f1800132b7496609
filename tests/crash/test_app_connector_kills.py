"""kill -9 of the processes of an app that imports, counts and exports: each row comes out once."""

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
from datetime import datetime
from pathlib import Path

import pytest

SOAK = bool(os.environ.get("STREAMKIT_SOAK"))
KILLS = 500 if SOAK else 14
PROCESSES = 2
ROWS_A_STEP = 50
STEP_SECONDS = 0.01

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800 if SOAK else 240)]

APP = """
from msgspec import Struct
from streamkit import App, State, session

class Row(Struct):
    number: int

class Seen(Struct):
    number: int
    times: int

app = App("kills")
rows = app.source(
    "FileSource", Row, to="rows", path="drop", key_fields=["number"], poll_interval="10ms",
    partitions=3, time="number",
)

@rows.process(to="seen")
def seen(row: Row, times: State[int]) -> Seen:
    times.set(times.get(0) + 1)
    return Seen(row.number, times.get(0))

seen.sink("FileSink", name="files", path="files")
seen.sink("SqlSink", name="table", connection_url="sqlite:///out.db")  # inserts: twice would be two

@rows.filter
def odd(row: Row) -> bool:
    return row.number % 2 == 1

odd.sink("FileSink", path="odd")

@rows.filter
def few(row: Row) -> bool:
    return row.number % 10 == 0 and row.number // 400 % 2 == 0

def lane(row: Row) -> str:
    return str(row.number // 10 % 4)

# What is early becomes one as the other partitions are read.
lanes = few.by(lane).window(session("50ms")).count(emit="update", to="lanes", name="lanes")
lanes.sink("SqlSink", connection_url="sqlite:///lanes.db", pk_mode="window", pk_fields=["lane"])
"""


class Writer:
    """A file that grows all the time, so that whoever is killed is killed at work."""

    def __init__(self, home: Path) -> None:
        (home / "drop").mkdir()
        self.written = 0
        self._path = home / "drop" / "rows.jsonl"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self) -> None:
        with open(self._path, "a") as file:
            while not self._over.wait(STEP_SECONDS):
                for number in range(self.written, self.written + ROWS_A_STEP):
                    file.write(json.dumps({"number": number}) + "\n")
                file.flush()
                self.written += ROWS_A_STEP

    def end(self) -> None:
        self._over.set()
        self._thread.join()


def start(home: Path, *options: str) -> "subprocess.Popen[bytes]":
    with open(home / "out.txt", "ab") as messages:
        return subprocess.Popen(
            [sys.executable, "-m", "streamkit", "--log", "log", "run", "app.py", *options],
            cwd=home,
            stdout=messages,
            stderr=messages,
        )


def in_ms(at: str) -> int:
    return round(datetime.fromisoformat(at).timestamp() * 1000)


def in_files(folder: Path) -> list[dict[str, int]]:
    lines = [line for path in folder.iterdir() for line in path.read_bytes().splitlines()]
    return [json.loads(line) for line in lines]


def test_each_row_comes_out_once_after_many_kills(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    dice = random.Random(seed)
    (tmp_path / "app.py").write_text(APP)
    writer = Writer(tmp_path)
    processes = [start(tmp_path) for _ in range(PROCESSES)]
    try:
        for _ in range(KILLS):
            time.sleep(dice.uniform(0.0, 2.0))  # a process begins to work after about half a second
            number = dice.randrange(PROCESSES)
            code = processes[number].poll()
            assert code is None, f"ended by itself ({code}):\n{(tmp_path / 'out.txt').read_text()}"
            processes[number].send_signal(signal.SIGKILL)
            processes[number].wait()
            processes[number] = start(tmp_path)
        writer.end()
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            # By the signal itself where it comes before there is somebody to take it.
            assert process.wait(60) in (0, -signal.SIGTERM), (tmp_path / "out.txt").read_text()
        # Two again, to the end of all there is.
        processes = [start(tmp_path, "--until-end") for _ in range(PROCESSES)]
        for process in processes:
            assert process.wait(120) == 0, (tmp_path / "out.txt").read_text()
    finally:
        writer.end()
        for process in processes:
            process.kill()
            process.wait()

    once = Counter(range(writer.written))
    print(writer.written, "rows")
    db = sqlite3.connect(tmp_path / "out.db")
    table = db.execute("SELECT number, times FROM seen").fetchall()
    db.close()
    db = sqlite3.connect(tmp_path / "lanes.db")
    lanes = db.execute("SELECT lane, window_start, value FROM lanes").fetchall()
    db.close()
    few = [n for n in range(0, writer.written, 10) if n // 400 % 2 == 0]
    bursts = Counter((str(n // 10 % 4), n // 400 * 400 + n % 40) for n in few)
    assert {(lane, in_ms(start)): count for lane, start, count in lanes} == bursts
    assert len(lanes) == len(bursts)
    files = in_files(tmp_path / "files")
    assert Counter(number for number, _ in table) == once
    assert Counter(row["number"] for row in files) == once
    assert {times for _, times in table} == {row["times"] for row in files} == {1}
    assert Counter(row["number"] for row in in_files(tmp_path / "odd")) == Counter(
        range(1, writer.written, 2)
    )
