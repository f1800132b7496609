"""How long it takes until anything can start: the import, and opening a large log.

In CPU time: nothing is waited for, as all files are in the page cache, and so other work on the
machine changes it less.
"""

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from benchmarks.measure import Row, main, medians
from streamkit.backends.base import Backend
from streamkit.backends.locate import open_backend
from streamkit.records import TopicPartition

LIMIT = 100.0
"""ms; for the import and for opening the log alike."""

PARTITIONS = 1_000
RECORDS = 100
ROUNDS = 7

NOT_INSTALLED = "not installed: pip install -e '.[bench]'"


def compiled(bytecode: str) -> dict[str, str]:
    """Modules are compiled once, into the folder `bytecode`, as they are when pip installs them."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def interpreter(code: str, bytecode: str) -> float:
    """Milliseconds of CPU that a fresh interpreter takes to run `code`."""
    environment = compiled(bytecode)
    command = [sys.executable, "-c", code]
    began = _of_children()
    subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
    return (_of_children() - began) * 1e3


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


LAZY = "import streamkit"
ALL = "from streamkit import *"
"""Peers are compared with this: `import streamkit` loads names only when they are asked for."""

PEERS = ("bytewax.operators", "quixstreams")


def imports(rounds: int, bytecode: str) -> list[Row]:
    """The interpreter's own start is taken off, as it is nobody's."""
    installed = [peer for peer in PEERS if find_spec(peer.partition(".")[0]) is not None]
    codes = ["pass", LAZY, ALL, *(f"import {peer}" for peer in installed)]
    runs: dict[str, Callable[[], float]] = {
        code: partial(interpreter, code, bytecode) for code in codes
    }
    medians(runs, 1)  # compiles
    took = medians(runs, rounds)
    bare = took["pass"]
    more = {code: max(took[code] - bare, 0.1) for code in codes}
    note = f"on top of `python -c pass`, {bare:.0f} ms"
    rows = [_row(code, more[code], "limit", LIMIT, note, 1.0) for code in (LAZY, ALL)]
    for code in (f"import {peer}" for peer in PEERS):
        said = note if code in more else NOT_INSTALLED
        rows.append(_row(ALL, more[ALL], code, more.get(code), said, None))
    return rows


LOADED = """
import streamkit.backends.embedded, streamkit.backends.offsets_topic, streamkit.log.directory
"""
OPEN = """
import sys, time
from streamkit.backends.base import Backend
from streamkit.backends.locate import open_backend
from streamkit.records import TopicPartition
began = time.process_time()
backend = open_backend(sys.argv[1], create=False)
topics = backend.topics().values()
opened = time.process_time()
for topic in topics:
    for number in range(topic.partitions):
        assert backend.offsets(TopicPartition(topic.name, number)).end == int(sys.argv[2])
print((opened - began) * 1e3, (time.process_time() - began) * 1e3)
"""


FILL = """
import os, signal, sys
from pathlib import Path
from benchmarks.startup import fill
backend = fill(Path(sys.argv[1]), int(sys.argv[2]))
"""
CLOSED = "backend.close()"
KILLED = "os.kill(os.getpid(), signal.SIGKILL)"


def opening(rounds: int, partitions: int, bytecode: str) -> list[Row]:
    """Opening a log in a fresh process; also looking up where every partition ends."""
    name = f"open a log of {partitions:,} partitions"
    _opened_after(CLOSED, 1, 1, LOADED, bytecode)  # compiles
    opened, looked = _opened_after(CLOSED, rounds, partitions, LOADED, bytecode)
    fresh, _ = _opened_after(CLOSED, rounds, partitions, "", bytecode)
    _, recovered = _opened_after(KILLED, 1, partitions, LOADED, bytecode)
    known, each = "its topics are known", "each partition opened"
    return [
        _row(name, opened, "limit", LIMIT, known, 1.0),
        _row(f"{name}, its modules included", fresh, "limit", LIMIT, known, 1.0),
        _row(f"{name} and all their ends", looked, "limit", LIMIT, each, 1.0),
        _row(
            f"{name} and all their ends, first time after kill -9",
            recovered,
            "limit",
            LIMIT,
            f"{each}; the writer was killed",
            None,
        ),
    ]


def fill(directory: Path, partitions: int) -> Backend:
    """A log of topics with 100 partitions each and a batch of records in every one; left open."""
    backend = open_backend(directory)
    for first in range(0, partitions, 100):
        count = min(100, partitions - first)
        name = backend.create_topic(f"topic-{first}", count).name
        for number in range(count):
            backend.append(TopicPartition(name, number), [b"x" * 100] * RECORDS)
    return backend


def _opened_after(
    end: str, rounds: int, partitions: int, before: str, bytecode: str
) -> tuple[float, float]:
    """The medians for a log whose writer ended by `end`; `before` is done out of the time."""
    with tempfile.TemporaryDirectory(prefix="streamkit-bench-") as directory:
        writer = [sys.executable, "-c", FILL + end, directory, str(partitions)]
        subprocess.run(writer, check=end == CLOSED)
        took = [_opened(directory, before, bytecode) for _ in range(rounds)]
    return median(opened for opened, _ in took), median(looked for _, looked in took)


def _opened(directory: str, before: str, bytecode: str) -> tuple[float, float]:
    command = [sys.executable, "-c", before + OPEN, directory, str(RECORDS)]
    environment = compiled(bytecode)
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    opened, looked = done.stdout.split()
    return float(opened), float(looked)


def _row(
    path: str, ours: float, beside: str, theirs: float | None, note: str, goal: float | None
) -> Row:
    return Row(path=path, ours=ours, beside=beside, theirs=theirs, unit="ms", goal=goal, note=note)


def measure(scale: float) -> Sequence[Row]:
    rounds = max(1, round(ROUNDS * scale))
    partitions = max(1, round(PARTITIONS * scale))
    with tempfile.TemporaryDirectory(prefix="streamkit-bench-") as bytecode:
        return [*imports(rounds, bytecode), *opening(rounds, partitions, bytecode)]


if __name__ == "__main__":
    main(measure)
