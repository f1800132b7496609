"""Memory while keys come and expire: an hour of event time, with new keys in every minute.

State with a time to live, windows, sessions, events that wait to be joined, versions of a table's
rows: all that is past has to go. What the process takes at the end of the hour is beside what it
took when that began. Before it comes another hour, in which what is kept in memory grows up to its
budget, and the holes between that to what they will be.
The log's upkeep is done after each minute, as a round of compaction takes memory of its own while
it is under way, and minutes pass faster here than such a round.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.measure import Row, main
from streamkit.app import App
from streamkit.backends.base import Backend
from streamkit.backends.embedded import EmbeddedBackend
from streamkit.backends.offsets_topic import OffsetsTopic
from streamkit.clock import SystemClock
from streamkit.dsl.state import MapState, State
from streamkit.dsl.windows import session, tumbling
from streamkit.engine.settings import Settings
from streamkit.engine.topics import create_topics
from streamkit.engine.worker import Worker
from streamkit.log.directory import Log
from streamkit.records import TopicPartition

MINUTES, FIRST = 60, 60
"""Of the hour, and before it."""
_ABOUT = 10
"""Minutes of which the median is taken, as memory comes from the system in lumps."""
PER_MINUTE = 5_000
"""Events, of a quarter as many keys, none of which is there a minute later."""
_TOGETHER = 500
LEFT, RIGHT = TopicPartition("left", 0), TopicPartition("right", 0)


def expiring() -> App:
    app = App("expiring")
    left = app.stream("left", int, out_of_order="5s")
    right = app.stream("right", int, out_of_order="5s")

    @left.process(name="lives")
    def lives(
        value: int,
        seen: State[int] = State(ttl="3m"),  # noqa: B008
        by: MapState[int, int] = MapState(ttl="3m"),  # noqa: B008
    ) -> None:
        seen.set(seen.get(0) + value)
        by[value % 3] = value

    left.window(tumbling("1m", grace="10s")).count(name="counts", to="counts")
    left.window(session("30s")).count(name="visits", to="visits")

    @left.join(right, within="1m", how="left", to="pairs")
    def near(one: int, other: int | None) -> int:
        return one + (other or 0)

    @left.join(app.table("names", str), how="left", history="2m", to="named")
    def named(one: int, name: str | None) -> int:
        return one + len(name or "")

    return app


def resident() -> float:
    """MB of memory of the process that are no file's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def minutes(log: Log, per_minute: int) -> list[float]:
    """What the process takes after each minute, as events go."""
    with EmbeddedBackend(log, OffsetsTopic(log, SystemClock()), closing=lambda: None) as backend:
        return list(_minutes(log, backend, per_minute))


def _minutes(log: Log, backend: Backend, per_minute: int) -> Iterator[float]:
    for topic in ("left", "right", "names"):
        backend.create_topic(topic)
    topology = expiring().topology()
    layout = create_topics(topology, backend)
    for topic in (*topology.sinks, "left", "right", "names"):
        backend.alter_topic(topic, {"retention.bytes": str(1 << 20), "segment.bytes": str(1 << 20)})
    worker = Worker(topology, backend, layout, Settings(memory=64 << 20), SystemClock())
    try:
        for minute in range(FIRST + MINUTES):
            _append(backend, minute, per_minute)
            while worker.turn() or not worker.at_end():
                if not worker.turn():
                    worker.commit()
            log.maintain()
            yield resident()
    finally:
        worker.close()


def _append(log: Backend, minute: int, per_minute: int) -> None:
    for start in range(0, per_minute, _TOGETHER):
        numbers = range(start, min(start + _TOGETHER, per_minute))
        keys = [b"key-%d-%d" % (minute, number % (per_minute // 4 or 1)) for number in numbers]
        stamps = [minute * 60_000 + number * 60_000 // per_minute for number in numbers]
        # Rows stay until they are deleted: of the same keys again and again, old versions go.
        names, same = [b"n"] * len(numbers), [b"name-%d" % (number % 500) for number in numbers]
        log.append(TopicPartition("names", 0), names, keys=same, timestamps=stamps)
        for at in (LEFT, RIGHT):
            log.append(at, [b"%d" % number for number in numbers], keys=keys, timestamps=stamps)


def measure(scale: float) -> list[Row]:
    with (
        tempfile.TemporaryDirectory(prefix="streamkit-bench-", dir=".") as folder,
        Log.open(Path(folder, "log"), maintenance=False) as log,
    ):
        taken = minutes(log, int(PER_MINUTE * scale) or 1)
    return [
        Row(
            path=f"memory after {MINUTES} minutes of {PER_MINUTE:,} events each, of new keys",
            ours=median(taken[-_ABOUT:]),
            beside="before them",
            theirs=median(taken[FIRST - _ABOUT : FIRST]),
            unit="MB",
            goal=0.9,
            note=", ".join(f"{each:.0f}" for each in taken[FIRST - 1 :: 10]),
        )
    ]


if __name__ == "__main__":
    main(measure)
