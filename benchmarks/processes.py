"""What processes notice of each other: appends, members of a group that are killed or come.

Wake-up is measured one way, by the clock that all processes share: from the moment at which an
append is published, and can be read by others, until another process that sleeps has its records.
"""

import select
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

from benchmarks.measure import Row, interleaved, main, medians
from benchmarks.scratch import VALUE, new_topic, running, scratch
from streamkit.backends.base import Backend
from streamkit.clients.consumer import Consumer
from streamkit.log.block import ControlBlock
from streamkit.log.control import End
from streamkit.records import TopicPartition

WAKES = 300
WAKE_NOTES = {
    "has": "from when it is published to the return of `fetch`",
    "woken": "from when it is published to the return of `wait`",
    "read": "from the call of `append` to the return of `fetch`",
}
ROUNDS = 3
IDLE_SECONDS = 5.0
JOIN_SECONDS = 1.0

# Waking up.

TAILING = """
import os, struct, sys, time
from streamkit.backends.locate import open_backend
from streamkit.records import TopicPartition
tp, at = TopicPartition(sys.argv[2], 0), 0
with open_backend(sys.argv[1]) as log:
    os.write(1, b"r")
    while True:
        log.wait({tp: at}, 60.0)
        woken = time.perf_counter_ns()
        for batch in log.fetch({tp: at}):
            at = batch.next_offset
            batch.columns()
            os.write(1, struct.pack("=qq", woken, time.perf_counter_ns()))
"""

READING = """
import os, struct, time
os.write(1, b"r")
while os.read(0, 1):
    woken = time.perf_counter_ns()
    os.write(1, struct.pack("=qq", woken, woken))
"""


def wake_ups(
    command: Sequence[str], send: Callable[["subprocess.Popen[bytes]"], int]
) -> dict[str, float]:
    """Medians in µs. The other process sleeps in between. `send` gives when it could be seen.

    `woken`: from when it could be seen until the other process runs; `has`: until it has what was
    sent; `read`: from when `send` was called until then.
    """
    with running(command) as process:
        assert process.stdout is not None
        took: dict[str, list[float]] = {"woken": [], "has": [], "read": []}
        for _ in range(WAKES):
            time.sleep(0.001)
            called = time.perf_counter_ns()
            seen = send(process)
            runs, has = struct.unpack("=qq", process.stdout.read(16))
            for name, nanoseconds in (
                ("woken", runs - seen),
                ("has", has - seen),
                ("read", has - called),
            ):
                took[name].append(nanoseconds / 1000)
        return {name: median(figures) for name, figures in took.items()}


def wake_by_log(log: Backend) -> dict[str, float]:
    tp = new_topic(log)
    command = [sys.executable, "-c", TAILING, log.url, tp.topic]
    published = 0
    publish = ControlBlock.publish

    def noted(block: ControlBlock, end: End) -> None:
        nonlocal published
        publish(block, end)
        published = time.perf_counter_ns()

    def send(_: "subprocess.Popen[bytes]") -> int:
        log.append(tp, [VALUE])
        return published

    # What is compiled publishes by itself: the same in Python tells when.
    log._log.partition(tp)._direct = None  # type: ignore[attr-defined]
    ControlBlock.publish = noted  # type: ignore[method-assign]
    try:
        return wake_ups(command, send)
    finally:
        ControlBlock.publish = publish  # type: ignore[method-assign]


def wake_by_pipe() -> dict[str, float]:
    def send(process: "subprocess.Popen[bytes]") -> int:
        assert process.stdin is not None
        began = time.perf_counter_ns()
        process.stdin.write(b"x")
        return began

    return wake_ups([sys.executable, "-c", READING], send)


# Doing nothing.

IDLE = """
import os, sys, time
from streamkit.clients.consumer import Consumer
from streamkit.clients.producer import Producer
from streamkit.backends.locate import open_backend
with open_backend(sys.argv[1]) as log, Consumer(log, sys.argv[2]) as consumer:
    with Producer(log) as producer:
        producer.send(sys.argv[2], b"so that there is a thread for maintenance")
    consumer.poll(1.0)
    os.write(1, b"r")
    began, used = time.monotonic(), time.process_time()
    while (left := began + float(sys.argv[3]) - time.monotonic()) > 0:
        consumer.poll(left)
    print((time.process_time() - used) / (time.monotonic() - began))
"""


def idle(log: Backend, seconds: float) -> float:
    """Percent of a processor that a consumer takes which waits for records; in a process alone."""
    tp = new_topic(log)
    with running([sys.executable, "-c", IDLE, log.url, tp.topic, str(seconds)]) as process:
        assert process.stdout is not None
        return float(process.stdout.read()) * 100


# Coming and going.

JOINING = """
import os, sys
from streamkit.clients.consumer import Consumer
with Consumer(sys.argv[1], sys.argv[2], group="join") as consumer:
    while not consumer.assignment:
        consumer.poll(0.05)
    os.write(1, b"r")
    while True:
        consumer.poll(1.0)
"""

PRODUCING = """
import os, sys, time
from streamkit.backends.locate import open_backend
from streamkit.records import TopicPartition
with open_backend(sys.argv[1]) as log:
    os.write(1, b"r")
    while True:
        for number in range(PARTITIONS):
            log.append(TopicPartition(sys.argv[2], number), [b"x"])
        time.sleep(0.002)
""".replace("PARTITIONS", "4")


def pauses(log: Backend, seconds: float) -> tuple[float, float]:
    """The longest pause in ms of partitions that stay: while another joins; with none joining."""
    topic = new_topic(log, 4).topic
    with (
        running([sys.executable, "-c", PRODUCING, log.url, topic]),
        Consumer(log, topic, group="join") as consumer,
    ):
        longest_pauses(consumer, seconds)  # until all is warm
        alone = longest_pauses(consumer, 2 * seconds)
        with running([sys.executable, "-c", JOINING, log.url, topic], ready=False) as process:
            meanwhile = longest_pauses(consumer, seconds, until=lambda: _is_ready(process))
        stayed = consumer.assignment & alone.keys()
        return max(meanwhile[tp] for tp in stayed), max(alone[tp] for tp in stayed)


def longest_pauses(
    consumer: Consumer[bytes | None], seconds: float, until: Callable[[], bool] = lambda: True
) -> dict[TopicPartition, float]:
    """Read until that is so, and so many seconds more; the longest pause of each partition, ms."""
    began = time.perf_counter()
    end: float | None = None
    last: dict[TopicPartition, float] = {}
    longest: dict[TopicPartition, float] = {}
    while end is None or time.perf_counter() < end:
        for record in consumer.poll(0.05):
            tp, now = TopicPartition(record.topic, record.partition), time.perf_counter()
            longest[tp] = max(longest.get(tp, 0.0), (now - last.get(tp, began)) * 1e3)
            last[tp] = now
        if end is None and until():
            end = time.perf_counter() + seconds
    return longest


def _is_ready(process: "subprocess.Popen[bytes]") -> bool:
    return bool(select.select([process.stdout], [], [], 0)[0])


# Taking over.

MEMBER = """
import os, sys
from streamkit.backends.locate import open_backend
with open_backend(sys.argv[1]) as log:
    member = log.join("bench", {"unit": 8})
    while len(member.poll().owned) < 4:
        log.wait({}, 1.0)
    os.write(1, b"r")
    log.wait({}, 600.0)
"""


def take_over(log: Backend) -> float:
    """Milliseconds from the SIGKILL of a member to its units being the other's."""
    member = log.join("bench", {"unit": 8})
    with running([sys.executable, "-c", MEMBER, log.url], ready=False) as process:
        assert process.stdout is not None
        while not _is_ready(process):
            member.release(member.poll().revoking)
            log.wait({}, 0.01)
        process.kill()
        began = time.perf_counter()
        while len(member.poll().owned) < 8:
            log.wait({}, 1.0)
        took = time.perf_counter() - began
    member.leave()
    return took * 1e3


def measure(scale: float) -> list[Row]:
    rounds = ROUNDS if scale >= 1 else 1
    with scratch() as (log, _):
        woken = interleaved({"log": partial(wake_by_log, log), "pipe": wake_by_pipe}, rounds)
        got = medians({"take over": partial(take_over, log)}, rounds)
        at_rest = idle(log, max(0.1, IDLE_SECONDS * min(scale, 1)))
        joins = [pauses(log, max(0.2, JOIN_SECONDS * min(scale, 1))) for _ in range(rounds)]

    def wake(path: str, what: str, beside: str, theirs: float, goal: float | None) -> Row:
        ours = median(one[what] for one in woken["log"])
        return Row(
            path=path,
            ours=ours,
            beside=beside,
            theirs=theirs,
            unit="us",
            goal=goal,
            note=WAKE_NOTES[what],
        )

    pipe = {what: median(one[what] for one in woken["pipe"]) for what in WAKE_NOTES}
    return [
        wake("another process has what is appended", "has", "limit", 100.0, 1.0),
        wake("another process has what is appended", "has", "pipe", pipe["has"], None),
        wake("another process wakes up", "woken", "limit", 100.0, None),
        wake("append, and another process has it", "read", "pipe", pipe["read"], None),
        Row(
            path="idle consumer",
            ours=at_rest,
            beside="limit",
            theirs=1.0,
            unit="%",
            goal=1.0,
            note="of a processor, with the thread of maintenance",
        ),
        Row(
            path="take over from a killed member",
            ours=got["take over"],
            beside="limit",
            theirs=100.0,
            unit="ms",
            goal=1.0,
        ),
        Row(
            path="longest pause of what stays while a member joins",
            ours=median(meanwhile for meanwhile, _ in joins),
            beside="with none joining",
            theirs=median(alone for _, alone in joins),
            unit="ms",
            note="a record every 2 ms",
        ),
    ]


if __name__ == "__main__":
    main(measure)
