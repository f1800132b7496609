"""More processes of the same command: `streamkit run --workers N`."""

import logging
import os
import select
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic, sleep

from streamkit.errors import WorkerFailed

logger = logging.getLogger("streamkit.cli")

LOOK_SECONDS = 0.1
"""How often is looked, while others are at work, whether they are to be stopped."""
DRAIN_SECONDS = 25.0
"""How long one may take to finish what it is at, when nobody says."""
GRACE_SECONDS = 2.0
"""So much more before it is killed, as it ends by itself then and says why."""
PAUSE_SECONDS = 1.0
"""From the death of one to the next that takes its place."""
KILLED_AT_MOST = 5
"""How many may be killed within `KILLED_WITHIN` seconds before that counts as a failure."""
KILLED_WITHIN = 60.0

_CLEAN = (0, 130, -signal.SIGINT)
"""Exit codes of a worker that was asked to stop. By the signal: Python itself was starting then."""


@contextmanager
def workers(
    count: int,
    arguments: Sequence[str],
    stop: Event,
    *,
    drain: float = DRAIN_SECONDS,
    on_line: Callable[[int, bytes], None] | None = None,
) -> Iterator[None]:
    """Run `count` more processes of this command beside the body, and end with them.

    They are members of the app's group like any others. One that somebody kills (-9, or for its
    memory) is replaced, while the others do its work; one that somebody stops is not. When one
    fails, `stop` is set and WorkerFailed is raised after the body. All are asked to stop when
    `stop` is set, have `drain` seconds to finish, and are killed soon after; also when the body
    raises. Where it ends without `stop`, they come to their end by themselves. When this process
    is killed they finish what they are at, and end: see `stop_when_alone`.

    With `on_line` each is given `--report FD`, and what it writes there comes to the function, as
    a line with the worker's number (from 1); an empty line says that there is no such worker now.
    """
    command = [sys.executable, "-m", "streamkit", *arguments]
    failed: list[str] = []
    killed: deque[float] = deque(maxlen=KILLED_AT_MOST)
    ending = Event()

    def live(number: int) -> None:
        while True:
            code, asked = _run(
                number, command, lambda: ending.is_set() or stop.is_set(), drain, on_line
            )
            # One that had no handler yet ends by the signal that all of us were sent.
            if code in _CLEAN or (code == -signal.SIGTERM and (asked or stop.is_set())):
                return
            if asked and code == -signal.SIGKILL:
                failed.append(f"a worker process had not ended {drain:g} s after it was asked to")
                return
            if code > 0:
                failed.append(f"a worker process ended with exit code {code}; its error is above")
                stop.set()
                return
            name = signal.Signals(-code).name
            if not _may_begin_again(killed):
                failed.append(
                    f"worker {number} was killed ({name}), and {KILLED_AT_MOST} times within "
                    f"{KILLED_WITHIN:g} s before that one was: no other is started. Find out who "
                    "kills them; where memory is short the system does (dmesg has it then)"
                )
                stop.set()
                return
            told = "worker %d was killed (%s): the others go on with its work, until another comes"
            logger.warning(told, number, name)
            if stop.wait(PAUSE_SECONDS) or ending.is_set():
                return

    threads = [Thread(target=live, args=(number,), daemon=True) for number in range(1, count + 1)]
    error = True
    try:
        for thread in threads:
            thread.start()
        yield
        error = False
    finally:
        if error:
            ending.set()
        for thread in threads:
            while thread.is_alive():
                thread.join(LOOK_SECONDS)
    if failed:
        raise WorkerFailed(failed[0])


def stop_when_alone(report: int, stop: Event, drain: float) -> None:
    """In one of them: set `stop` when the process that started it, which reads `report`, is gone.

    Whoever starts that one again gets others: these would be too many, and nobody would end them.
    """

    def watch() -> None:
        watched = select.poll()
        watched.register(report, 0)
        watched.poll()
        if not stop.is_set():
            logger.warning(
                "the process that started this worker was killed: it finishes what it is at, and "
                "ends too"
            )
            stop.set()
        sleep(drain + GRACE_SECONDS)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _may_begin_again(killed: "deque[float]") -> bool:
    now = monotonic()
    often = len(killed) == KILLED_AT_MOST and now - killed[0] < KILLED_WITHIN
    killed.append(now)
    return not often


def _run(
    number: int,
    command: list[str],
    end: Callable[[], bool],
    drain: float,
    on_line: Callable[[int, bytes], None] | None,
) -> tuple[int, bool]:
    """Run one to its end; its exit code, and whether it had been asked to end."""
    reader = None
    if on_line is None:
        process = subprocess.Popen(command)
    else:
        reading, writing = os.pipe()
        with os.fdopen(writing, "wb", closefd=True):
            process = subprocess.Popen([*command, "--report", str(writing)], pass_fds=(writing,))
        reader = Thread(target=_read, args=(number, reading, on_line), daemon=True)
        reader.start()
    asked: float | None = None
    while True:
        try:
            code = process.wait(LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            now = monotonic()
            if asked is None and end():
                asked = now
                process.terminate()
            elif asked is not None and now - asked > drain + GRACE_SECONDS:
                process.kill()
            continue
        if reader is not None:
            reader.join()
        return code, asked is not None


def _read(number: int, reading: int, on_line: Callable[[int, bytes], None]) -> None:
    with os.fdopen(reading, "rb") as lines:
        for line in lines:
            on_line(number, line)
    on_line(number, b"")
