"""What every engine's process does: make the events, time the work, say what came out."""

import gc
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

import msgspec

from benchmarks.events import Event, Summary, events, summary


@dataclass(frozen=True, slots=True)
class Job:
    """Work that is timed, and a look at its output values (JSON), which is not."""

    work: Callable[[], None]
    outputs: Callable[[], list[bytes]]


F = TypeVar("F")

Prepare: TypeAlias = Callable[[F, list[Event], Path], Job]
"""Takes what a path is to the engine, the events and an empty directory; is not timed itself."""


class Measured(msgspec.Struct, frozen=True):
    """One round of one engine. `seconds` and `cpu` (all threads) are for `events` events."""

    events: int
    seconds: float
    cpu: float
    summary: Summary

    @property
    def rate(self) -> float:
        """Events per second of wall clock."""
        return self.events / self.seconds

    @property
    def cpu_per_million(self) -> float:
        """CPU seconds per million events."""
        return self.cpu / self.events * 1e6


def main(prepare: Prepare[F], paths: Mapping[str, F]) -> None:
    """`<path> <orders>` on the command line; one JSON line of `Measured` on standard output."""
    path, count = sys.argv[1], int(sys.argv[2])
    given = list(events(count))
    with tempfile.TemporaryDirectory(prefix="streamkit-bench-") as directory:
        job = prepare(paths[path], given, Path(directory))
        # The events are the benchmark's, not the engine's: no collection shall walk through them.
        gc.collect()
        gc.freeze()
        wall, cpu = time.perf_counter(), time.process_time()
        job.work()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        values = job.outputs()
    measured = Measured(len(given), wall, cpu, summary(path, values, count))
    print(msgspec.json.encode(measured).decode())
