"""Filter + map, counts, windows, sessions and joins, log to log, beside Bytewax and Quix Streams.

All engines get the same events (`benchmarks.events`), as many as each can do in about a second or
two, and each round of each engine is a process of its own. What they put out is compared: a figure
for work that was not done, or done differently, is none.

What each engine is spared is said in its module. streamkit reads and writes a log in files, and
commits. The peers' engines read from memory and write to memory; Bytewax's is also put on the same
log. `loop` is the limit: the same log, codec and functions, in a plain loop without an engine.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from statistics import median

import msgspec

from benchmarks.engines.process import Measured
from benchmarks.events import Summary, expected
from benchmarks.measure import Row, interleaved, main

ROUNDS = 3
NOT_INSTALLED = "not installed: pip install -e '.[bench]'"


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine: its module here, what the table calls it, what its figure is spared."""

    module: str
    name: str
    needs: str
    note: str = ""

    @property
    def installed(self) -> bool:
        return find_spec(self.needs) is not None


OURS = Engine("ours", "streamkit", "streamkit")
BESIDE = (
    Engine("loop", "plain loop, no engine", "streamkit", "the limit: same log, codec, functions"),
    Engine("bytewax_log", "Bytewax on the same log", "bytewax", "no commits"),
    Engine("bytewax", "Bytewax", "bytewax", "memory to memory, which flatters it"),
    Engine("quixstreams", "Quix Streams", "quixstreams", "memory to memory, which flatters it"),
)


@dataclass(frozen=True, slots=True)
class Path:
    """A thing to do, how many orders each engine that can does it with, and the least ratios to
    reach."""

    name: str
    title: str
    orders: dict[str, int]
    goals: dict[str, float]


PATHS = (
    Path(
        "filter-map",
        "filter + map, typed JSON",
        {
            "ours": 1_000_000,
            "loop": 1_000_000,
            "bytewax_log": 1_000_000,
            "bytewax": 1_000_000,
            "quixstreams": 200_000,
        },
        {"bytewax_log": 1.0, "quixstreams": 3.0},
    ),
    Path(
        "windowed-count",
        "windowed count, final results",
        {
            "ours": 1_000_000,
            "loop": 1_000_000,
            "bytewax_log": 100_000,
            "bytewax": 100_000,
            "quixstreams": 50_000,
        },
        {"bytewax_log": 3.0, "bytewax": 3.0, "quixstreams": 6.0},
    ),
    Path(
        "keyed-count",
        "count of each key, each with its changes",
        {"ours": 1_000_000, "loop": 1_000_000, "bytewax_log": 200_000, "bytewax": 200_000},
        {"bytewax_log": 1.0},
    ),
    Path(
        "sessions",
        "sessions of seven, final counts",
        {"ours": 300_000, "loop": 300_000, "bytewax_log": 60_000, "bytewax": 60_000},
        {"bytewax_log": 3.0, "bytewax": 3.0},
    ),
    Path(
        "table-join",
        "join with a table of 1,000 rows",
        {"ours": 1_000_000, "loop": 1_000_000, "bytewax_log": 1_000_000, "bytewax": 1_000_000},
        {"bytewax_log": 1.0},
    ),
    Path(
        "interval-join",
        "pairs of two streams, 20 ms apart",
        {"ours": 200_000, "loop": 300_000},
        {},
    ),
    Path(
        "as-of-join",
        "each with the last of another stream",
        {"ours": 200_000, "loop": 300_000},
        {},
    ),
)


def one_round(engine: Engine, path: Path, scale: float) -> Measured:
    """Run one engine once, in a fresh process."""
    orders = max(1_000, round(path.orders[engine.module] * scale))
    command = [sys.executable, "-m", f"benchmarks.engines.{engine.module}", path.name, str(orders)]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    if done.returncode:
        raise SystemExit(f"{engine.name} failed at {path.name}:\n{done.stderr}")
    measured = msgspec.json.decode(done.stdout.splitlines()[-1], type=Measured)
    due: Summary = expected(path.name, orders)
    if measured.summary != due:
        raise SystemExit(
            f"{engine.name} put out {measured.summary} at {path.name} of {orders} orders, "
            f"not {due}: its figure would be worth nothing"
        )
    return measured


def compare(path: Path, scale: float, beside: Sequence[Engine] = BESIDE) -> list[Row]:
    beside = [each for each in beside if not each.installed or each.module in path.orders]
    engines = [engine for engine in (OURS, *beside) if engine.installed]
    runs = {engine.module: partial(one_round, engine, path, scale) for engine in engines}
    measured = interleaved(runs, ROUNDS if scale >= 1 else 1)
    ours = _median_rate(measured[OURS.module])
    rows = []
    for engine in beside:
        theirs = measured.get(engine.module)
        rows.append(
            Row(
                path=path.title,
                ours=ours,
                beside=engine.name,
                theirs=_median_rate(theirs) if theirs else None,
                goal=path.goals.get(engine.module),
                note=f"{engine.note}; {_cpu(measured[OURS.module])} / {_cpu(theirs)} CPU s/M"
                if theirs
                else NOT_INSTALLED,
            )
        )
    return rows


def _median_rate(rounds: list[Measured]) -> float:
    return median(each.rate for each in rounds)


def _cpu(rounds: list[Measured]) -> str:
    return f"{median(each.cpu_per_million for each in rounds):.2f}"


def measure(scale: float) -> Sequence[Row]:
    return [row for path in PATHS for row in compare(path, scale)]


if __name__ == "__main__":
    main(measure)
