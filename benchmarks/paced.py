"""From an append to the result in another process: 10,000 events a second through a running app.

Three processes, as in life: one appends ten events every millisecond, the app makes one result of
each, one reads the results. Beside it is the same without the app: who reads the events themselves
as they come. What another process on the machine takes is in both.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from signal import SIGINT

from benchmarks.measure import Row, main
from streamkit.app import App
from streamkit.backends.locate import open_backend
from streamkit.dsl.guarantee import Guarantee
from streamkit.records import TopicPartition

RATE = 10_000
TOGETHER = 10
SECONDS = 4
PARTITIONS = 2
PATHS: tuple[tuple[Guarantee, str, dict[float, float]], ...] = (
    ("at_least_once", "2s", {0.5: 0.5, 0.99: 2.0}),
    ("exactly_once", "1ms", {0.5: 5.0}),
)
"""The guarantee, the commit interval, and the goals: ms by quantile."""


def process(log: str, events: int) -> None:
    """The app: it forwards what it is given."""
    guarantee, interval = os.environ["GUARANTEE"], os.environ["INTERVAL"]
    app = App("paced", log=log, guarantee=guarantee, commit_interval=interval)  # type: ignore[arg-type]

    @app.stream("in", bytes).process(to="out")
    def forward(sent: bytes) -> bytes:
        return sent

    app.run()


def send(log: str, events: int) -> None:
    """Append the time, at an even pace."""
    with open_backend(log) as backend:
        began = time.monotonic()
        for number in range(0, events, TOGETHER):
            time.sleep(max(0.0, began + number / RATE - time.monotonic()))
            partition = TopicPartition("in", number // TOGETHER % PARTITIONS)
            backend.append(partition, [b"%d" % time.monotonic_ns()] * TOGETHER)


def read(log: str, events: int) -> None:
    """Print quantiles of the age of records when they are read, in ms; all but the first fifth."""
    ages: list[int] = []
    topic = os.environ["READ"]
    positions = {TopicPartition(topic, number): 0 for number in range(PARTITIONS)}
    with open_backend(log) as backend:
        while len(ages) < events:
            batches = backend.fetch(positions)
            now = time.monotonic_ns()
            for batch in batches:
                ages += [now - int(sent or 0) for sent in batch.columns().values]
                positions[batch.partition] = batch.next_offset
            if not batches:
                backend.wait(positions, 0.2)
    counted = sorted(ages[events // 5 :])
    for quantile in (0.5, 0.99):
        print(counted[int(len(counted) * quantile)] / 1e6)


def ages(events: int, app: tuple[str, str] | None) -> dict[float, float]:
    """Run the processes, with an app of this guarantee and interval or none; ms by quantile."""
    guarantee, interval = app or ("", "")
    told = {"GUARANTEE": guarantee, "INTERVAL": interval, "READ": "in" if app is None else "out"}
    with (
        tempfile.TemporaryDirectory(prefix="streamkit-bench-") as log,
        open_backend(log) as backend,
    ):
        for topic in ("in", "out"):
            backend.create_topic(topic, PARTITIONS)

        def begin(role: str) -> "subprocess.Popen[str]":
            command = [sys.executable, "-m", "benchmarks.paced", role, log, str(events)]
            environment = {**os.environ, **told}
            return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

        between = begin("process") if app is not None else None
        while between is not None and TopicPartition("in", 0) not in backend.committed("paced"):
            time.sleep(0.05)
        reader, sender = begin("read"), begin("send")
        found = reader.communicate()[0].split()
        sender.wait()
        if between is not None:
            between.send_signal(SIGINT)
            between.wait()
    return dict(zip((0.5, 0.99), map(float, found), strict=True))


def measure(scale: float) -> Sequence[Row]:
    events = max(1_000, round(RATE * SECONDS * scale))
    alone = ages(events, None)
    rows = []
    for guarantee, interval, goals in PATHS:
        for quantile, age in ages(events, (guarantee, interval)).items():
            goal = f"; goal {goals[quantile]} ms" if quantile in goals else ""
            rows.append(
                Row(
                    path=f"{guarantee.replace('_', ' ')}, p{quantile * 100:.0f}",
                    ours=age,
                    beside="no app between",
                    theirs=alone[quantile],
                    unit="ms",
                    note=f"append to result read; a commit each {interval} at most{goal}",
                )
            )
    return rows


if __name__ == "__main__":
    roles = {"process": process, "send": send, "read": read}
    if len(sys.argv) == 4 and sys.argv[1] in roles:
        roles[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
    else:
        main(measure)
