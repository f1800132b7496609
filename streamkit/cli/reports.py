"""How several processes of an app are shown as one: workers report, the first one shows."""

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamkit.engine.progress import Progress

COLUMNS = ("process", "tasks", "events", "events/s", "behind", "late", "failed", "")

_PIPE_BUF = 4096
"""So much goes into a pipe whole or not at all."""


class _Sent(logging.Handler):
    def __init__(self, reporter: "Reporter") -> None:
        super().__init__()
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        if not self._reporter.send({"log": [record.levelno, record.getMessage()]}):
            # Nobody shows it any more: so it is ours to say.
            logging.lastResort.handle(record) if logging.lastResort else None


class Reporter:
    """A worker's side: lines of JSON to a file descriptor, as long as somebody reads them."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        os.set_inheritable(descriptor, False)
        self._descriptor: int | None = descriptor

    def send(self, report: dict[str, Any]) -> bool:
        """False when there was nobody to take it."""
        line = json.dumps(report).encode() + b"\n"
        if self._descriptor is None or len(line) > _PIPE_BUF:
            return False
        try:
            os.write(self._descriptor, line)
        except BlockingIOError:
            return False  # whoever reads was stopped
        except OSError:
            self._descriptor = None
            return False
        return True

    def progress(self, now: "Progress") -> None:
        self.send({"row": row(now)})


@contextmanager
def reporting(descriptor: int, debug: bool) -> Iterator[Reporter]:
    """Send streamkit's log lines, and progress, to a file descriptor."""
    reporter = Reporter(descriptor)
    handler = _Sent(reporter)
    logger = logging.getLogger("streamkit")
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    logger.addHandler(handler)
    try:
        yield reporter
    finally:
        logger.removeHandler(handler)


class Board:
    """The side that shows: a row for each process, and one for all."""

    def __init__(self, name: str, show: Callable[[list[Sequence[Any]]], None]) -> None:
        self._name = name
        self._show = show
        self._rows: dict[int, list[Any]] = {}
        self._lock = Lock()

    def progress(self, now: "Progress") -> None:
        """Of this process."""
        self._put(0, row(now))

    def line(self, worker: int, line: bytes) -> None:
        """What a worker has reported; nothing when it is gone."""
        if not line:
            with self._lock:
                self._rows.pop(worker, None)
            return
        report = json.loads(line)
        if "row" in report:
            self._put(worker, report["row"])
        else:
            level, text = report["log"]
            logging.getLogger("streamkit.cli").log(level, "worker %d: %s", worker, text)

    def _put(self, worker: int, row: list[Any]) -> None:
        with self._lock:
            self._rows[worker] = row
            rows = [self._rows[number] for number in sorted(self._rows)]
            numbers = sorted(self._rows)
            shown: list[Sequence[Any]] = [
                (self._name if number == 0 else f"worker {number}", *row)
                for number, row in zip(numbers, rows, strict=True)
            ]
            if len(rows) > 1:
                sums = (sum(column) for column in list(zip(*rows, strict=True))[:-1])
                shown.append(("all", *sums, ""))
            self._show(shown)


def row(now: "Progress") -> list[Any]:
    """Of `COLUMNS`, all but the first."""
    notes = [] if now.restoring is None else [f"restoring {now.restoring.bar} {now.restoring}"]
    said = "\n".join([*notes, *now.notes])
    return [now.tasks, now.processed, round(now.rate), now.lag, now.late, now.failed, said]
