"""What processes notice of each other: appends, members of a group that are killed or come.

Wake-up is measured one way: a record or a byte says when it was sent, by the clock that all
processes share, and whoever was woken by it compares.
"""

import select
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

from benchmarks.measure import Row, main, medians
from benchmarks.scratch import new_topic, running, scratch
from streamkit.backends.base import Backend

WAKES = 300
ROUNDS = 5
IDLE_SECONDS = 5.0

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
        for batch in log.fetch({tp: at}):
            now = time.perf_counter_ns()
            at = batch.next_offset
            for value in batch.columns().values:
                os.write(1, struct.pack("=q", now - int(value)))
"""

READING = """
import os, struct, time
os.write(1, b"r")
while sent := os.read(0, 8):
    os.write(1, struct.pack("=q", time.perf_counter_ns() - struct.unpack("=q", sent)[0]))
"""


def wake_ups(command: Sequence[str], send: Callable[["subprocess.Popen[bytes]"], object]) -> float:
    """The median time in µs until the other process has what was sent; it sleeps in between."""
    with running(command) as process:
        assert process.stdout is not None
        took = []
        for _ in range(WAKES):
            time.sleep(0.001)
            send(process)
            (nanoseconds,) = struct.unpack("=q", process.stdout.read(8))
            took.append(nanoseconds / 1000)
        return median(took)


def wake_by_log(log: Backend) -> float:
    tp = new_topic(log)
    command = [sys.executable, "-c", TAILING, log.url, tp.topic]
    return wake_ups(command, lambda _: log.append(tp, [b"%d" % time.perf_counter_ns()]))


def wake_by_pipe() -> float:
    def send(process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None
        process.stdin.write(struct.pack("=q", time.perf_counter_ns()))

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
        while not select.select([process.stdout], [], [], 0)[0]:
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
        got = medians(
            {
                "wake": partial(wake_by_log, log),
                "wake raw": wake_by_pipe,
                "take over": partial(take_over, log),
            },
            rounds,
        )
        at_rest = idle(log, max(0.1, IDLE_SECONDS * min(scale, 1)))
    return [
        Row(
            path="wake another process",
            ours=got["wake"],
            beside=beside,
            theirs=theirs,
            unit="us",
            goal=goal,
            note="append to fetch, one way; median",
        )
        for beside, theirs, goal in (("limit", 100.0, 1.0), ("pipe", got["wake raw"], None))
    ] + [
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
    ]


if __name__ == "__main__":
    main(measure)
