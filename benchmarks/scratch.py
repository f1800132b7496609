"""A log to measure with, on the disk of the folder that the benchmark is run in."""

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from streamkit.backends.base import Backend
from streamkit.backends.locate import open_backend
from streamkit.records import TopicPartition

VALUE = b"x" * 100

_names = count()


@contextmanager
def scratch() -> Iterator[tuple[Backend, Path]]:
    """An empty log, and a path for a file beside it."""
    with (
        tempfile.TemporaryDirectory(prefix="streamkit-bench-", dir=".") as directory,
        open_backend(Path(directory, "log")) as log,
    ):
        yield log, Path(directory, "file")


def new_topic(log: Backend, partitions: int = 1) -> TopicPartition:
    """The first partition of a topic that nobody has used."""
    name = f"t{next(_names)}"
    log.create_topic(name, partitions)
    return TopicPartition(name, 0)


def rate(things: int, work: Callable[[], object]) -> float:
    """Per second of this process's CPU time, with all its threads."""
    began = time.process_time()
    work()
    return things / (time.process_time() - began)


def wall_rate(things: int, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return things / (time.perf_counter() - began)


class running:
    """A process that is killed at the end, and is ready when it has written its first byte."""

    def __init__(self, command: Sequence[str], *, ready: bool = True) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        if ready:
            assert self._process.stdout is not None
            self._process.stdout.read(1)

    def __enter__(self) -> "subprocess.Popen[bytes]":
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
