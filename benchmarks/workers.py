"""One app in one process and in two: `streamkit run --workers 2` over the partitions of one topic.

Windows are counted, exactly once, from the start of the command to its end, the same events each
time. Beside that stands what the machine itself gives to two processes: two apps of one process
each, side by side, each with half of the events in a log of its own.
"""

import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median

from benchmarks.measure import Row, interleaved, main
from benchmarks.scratch import scratch, wall_rate
from streamkit.backends.base import Backend
from streamkit.backends.locate import open_backend
from streamkit.records import TopicPartition

EVENTS = 4_000_000
PARTITIONS = 8
TOGETHER = 10_000
KEYS = [b"user%04d" % number for number in range(1_000)]
ROUNDS = 3
GOAL = 1.7

_APP = """
from msgspec import Struct
from streamkit import App, tumbling


class Order(Struct):
    id: int
    user: str
    amount: float


app = App("{name}")
large = app.stream("orders", Order).filter(lambda order: order.amount >= 50)
large.window(tumbling("1s", grace="0ms")).count(to="counts-{name}")
"""

_names = count()


def fill(log: Backend, events: int, partitions: int) -> None:
    """Orders with ten milliseconds between two of a partition."""
    log.create_topic("orders", partitions)
    values = [
        b'{"id":%d,"user":"user%04d","amount":%d.5}' % (number, number % len(KEYS), number % 100)
        for number in range(TOGETHER)
    ]
    keys = KEYS * (TOGETHER // len(KEYS))
    each = events // partitions
    for partition in range(partitions):
        for at in range(0, each, TOGETHER):
            some = min(TOGETHER, each - at)
            log.append(
                TopicPartition("orders", partition),
                values[:some],
                keys=keys[:some],
                timestamps=[1_700_000_000_000 + 10 * (at + number) for number in range(some)],
            )


def app(folder: Path, log: Path, workers: int) -> "subprocess.Popen[str]":
    """A new app that counts all there is."""
    name = f"app{next(_names)}"
    path = folder / f"{name}.py"
    path.write_text(_APP.format(name=name))
    command = [sys.executable, "-m", "streamkit", "--log", str(log), "run", str(path)]
    return subprocess.Popen(
        [*command, "--until-end", "--workers", str(workers)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(apps: Sequence["subprocess.Popen[str]"]) -> None:
    for one in apps:
        _, said = one.communicate()
        if one.returncode:
            raise SystemExit(said)


def measure(scale: float) -> list[Row]:
    events = max(PARTITIONS, int(EVENTS * scale))
    with scratch() as (backend, file):
        folder = file.parent
        logs = [folder / "one", folder / "other"]
        fill(backend, events, PARTITIONS)
        for log in logs:
            with open_backend(log) as half:
                fill(half, events // 2, PARTITIONS // 2)

        def workers(number: int) -> float:
            return wall_rate(events, lambda: ended([app(folder, folder / "log", number)]))

        def side_by_side() -> float:
            return wall_rate(events, lambda: ended([app(folder, log, 1) for log in logs]))

        runs: dict[str, Callable[[], float]] = {
            "one": partial(workers, 1),
            "two": partial(workers, 2),
            "apart": side_by_side,
        }
        rounds = ROUNDS if scale >= 1 else 1
        found = {name: median(rates) for name, rates in interleaved(runs, rounds).items()}
    path = "windowed count, two workers"
    goal = GOAL if scale >= 1 else None
    return [
        Row(path=path, ours=found["two"], beside="one worker", theirs=found["one"], goal=goal),
        Row(
            path=path,
            ours=found["two"],
            beside="two apps side by side, half of it each",
            theirs=found["apart"],
            note="what two processes get of this machine",
        ),
    ]


if __name__ == "__main__":
    main(measure)
