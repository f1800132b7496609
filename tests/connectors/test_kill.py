"""A worker killed with SIGKILL again and again, while its inputs grow."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from streamkit.backends.locate import open_backend
from streamkit.records import TopicPartition

KILLS = 10
ROWS = 400  # per input and kill

WORKER = """
[connectors.files]
"connector.class" = "FileSource"
path = "drop"
topic = "files"
"key.fields" = ["n"]
"topic.creation.default.partitions" = 3
"errors.retry.delay.max.ms" = 50

[connectors.rows]
"connector.class" = "SqlSource"
"connection.url" = "sqlite:///in.db"
tables = ["rows"]
mode = "incrementing"
"poll.interval" = "20ms"
"batch.max.rows" = 50
"errors.retry.delay.max.ms" = 50

[connectors.lines]
"connector.class" = "FileSink"
path = "out"
topics = ["files", "rows"]

[connectors.inserts]
"connector.class" = "SqlSink"
"connection.url" = "sqlite:///inserts.db"
topics = ["files"]
"errors.retry.delay.max.ms" = 50

[connectors.upserts]
"connector.class" = "SqlSink"
"connection.url" = "sqlite:///upserts.db"
topics = ["files", "rows"]
"insert.mode" = "upsert"
"pk.mode" = "record_value"
"pk.fields" = ["n"]
"errors.retry.delay.max.ms" = 50
"""

RUN = """
import sys
from streamkit.connect.worker import run
run("worker.toml", "log", until_idle=sys.argv[1] == "until_idle")
"""


def start(folder: Path, how: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", RUN, how], cwd=folder)


def add(folder: Path, first: int, db: sqlite3.Connection) -> None:
    """More of both inputs; the file's last row is left unfinished for a moment."""
    numbers = range(first, first + ROWS)
    text = "".join(f'{n},"row {n}\nof two lines"\n' for n in numbers)
    with (folder / "drop" / f"{first // (3 * ROWS)}.csv").open("a") as file:
        if file.tell() == 0:
            file.write("n,text\n")
        file.write(text[:-5])
        file.flush()
        with db:
            db.executemany("INSERT INTO rows (n) VALUES (?)", ((f"r{n}",) for n in numbers))
        file.write(text[-5:])


def topic(folder: Path, name: str) -> Counter[bytes]:
    """How often each value is in the topic."""
    found: Counter[bytes] = Counter()
    with open_backend(str(folder / "log")) as log:
        for number in range(log.topic(name).partitions):
            target = TopicPartition(name, number)
            position = log.offsets(target).start
            while batches := log.fetch({target: position}):
                for batch in batches:
                    found.update(value or b"" for value in batch.columns().values)
                    position = batch.next_offset
    return found


def query(path: Path, sql: str) -> list[tuple[object, ...]]:
    db = sqlite3.connect(path)
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()


def test_nothing_is_lost_and_nothing_comes_twice_when_the_worker_is_killed(
    tmp_path: Path,
) -> None:
    seed = int.from_bytes(os.urandom(4))
    print(f"seed {seed}")
    chance = random.Random(seed)
    (tmp_path / "drop").mkdir()
    (tmp_path / "worker.toml").write_text(WORKER)
    db = sqlite3.connect(tmp_path / "in.db", timeout=60)
    with db:
        db.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY AUTOINCREMENT, n TEXT)")
    for round_ in range(KILLS):
        worker = start(tmp_path, "go on")
        add(tmp_path, round_ * ROWS, db)
        time.sleep(chance.uniform(0.2, 1.2))  # the moment of the kill, no condition of the test
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    db.close()
    last = start(tmp_path, "until_idle")
    assert last.wait(60) == 0

    total = KILLS * ROWS
    files, rows = topic(tmp_path, "files"), topic(tmp_path, "rows")
    numbers = Counter(json.loads(value)["n"] for value in files.elements())
    assert numbers == Counter(str(n) for n in range(total))
    assert Counter(json.loads(value)["n"] for value in rows.elements()) == Counter(
        f"r{n}" for n in range(total)
    )

    lines: Counter[bytes] = Counter()
    for path in (tmp_path / "out").iterdir():
        lines.update(path.read_bytes().splitlines())
    assert lines == files + rows
    inserted = query(tmp_path / "inserts.db", "SELECT n, count(*) FROM files GROUP BY n")
    assert dict(inserted) == numbers
    for table in ("files", "rows"):
        assert query(tmp_path / "upserts.db", f"SELECT count(*) FROM {table}") == [(total,)]


def test_sigterm_ends_the_worker_cleanly_and_a_restart_repeats_nothing(tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    (tmp_path / "worker.toml").write_text(WORKER)
    with sqlite3.connect(tmp_path / "in.db") as db:
        db.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY AUTOINCREMENT, n TEXT)")
        with (tmp_path / "drop" / "a.csv").open("w") as file:
            file.write("n,text\n" + "".join(f"{n},x\n" for n in range(20_000)))
        db.executemany("INSERT INTO rows (n) VALUES (?)", ((f"r{n}",) for n in range(20_000)))
    db.close()
    command = [sys.executable, "-m", "streamkit", "--log", "log", "connect", "worker.toml"]
    worker = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not list((tmp_path / "log").glob("rows-0/*.log")):
        assert worker.poll() is None, worker.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    began = time.monotonic()
    worker.terminate()
    _, errors = worker.communicate(timeout=30)
    print(f"stopped after {time.monotonic() - began:.2f} s")
    assert worker.returncode == 0, errors.decode()
    assert start(tmp_path, "until_idle").wait(60) == 0
    assert set(topic(tmp_path, "files").values()) == {1}
    assert set(topic(tmp_path, "rows").values()) == {1}
    assert len(topic(tmp_path, "files")) == 20_000


def test_another_worker_takes_over_from_one_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    (tmp_path / "worker.toml").write_text(WORKER.split("[connectors.rows]")[0])
    workers = [start(tmp_path, "go on") for _ in range(2)]
    try:
        with (
            (tmp_path / "drop" / "a.csv").open("w") as file,
            open_backend(str(tmp_path / "log")) as log,
        ):
            file.write("n\n")
            row = 0

            def arrives() -> float:
                """Write one more row; how long it takes until it is in the log, in seconds."""
                nonlocal row
                began = time.monotonic()
                file.write(f"{row}\n")
                file.flush()
                row += 1
                while time.monotonic() < began + 30:
                    if "files" in log.topics() and len(topic(tmp_path, "files")) == row:
                        return time.monotonic() - began
                    time.sleep(0.005)
                raise AssertionError(f"row {row} did not arrive within 30 s")

            def owner() -> subprocess.Popen[bytes]:
                """The process of the member that has the connector."""
                members = log.group("connect-cluster").members
                (pid,) = (int(m.client_id.rpartition("-")[2]) for m in members if m.units)
                return next(worker for worker in workers if worker.pid == pid)

            print(f"{arrives():.3f} s until the first record")
            killed = owner()
            killed.kill()
            killed.wait()
            print(f"{arrives():.3f} s until the other worker's first record")
            assert owner() is not killed
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
