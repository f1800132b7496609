"""More processes of the same command: `streamkit run --workers N`."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread

from streamkit.errors import WorkerFailed

LOOK_SECONDS = 0.1
"""How often is looked, while others come to their end, whether they are to be stopped."""

_CLEAN = (0, 130, -signal.SIGINT)
"""Exit codes of a worker that was asked to stop. By the signal: Python itself was starting then."""


@contextmanager
def workers(count: int, arguments: Sequence[str], stop: Event) -> Iterator[None]:
    """Run `count` more processes of this command beside the body, and end with them.

    They are members of the app's group like any others. When one fails, `stop` is set and
    WorkerFailed is raised after the body; when the body ends, they are asked to stop as well,
    unless it ended without `stop`: then they come to their end by themselves, or by a `stop` that
    comes meanwhile. When this process is killed they go on, and share its tasks.
    """
    command = [sys.executable, "-m", "streamkit", *arguments]
    processes: list[subprocess.Popen[bytes]] = []
    watchers: list[Thread] = []
    failed: list[int] = []
    asked = False

    def watch(process: "subprocess.Popen[bytes]") -> None:
        code = process.wait()
        # One that had no handler yet ends by the signal that all of us were sent.
        if code not in _CLEAN and not (code == -signal.SIGTERM and (asked or stop.is_set())):
            failed.append(code)
            stop.set()

    error = True
    try:
        for _ in range(count):
            processes.append(subprocess.Popen(command))
            watchers.append(Thread(target=watch, args=(processes[-1],), daemon=True))
            watchers[-1].start()
        yield
        error = False
    finally:
        while any(watcher.is_alive() for watcher in watchers):
            if not asked and (error or stop.is_set()):
                asked = True
                for process in processes:
                    process.terminate()
            for watcher in watchers:
                watcher.join(LOOK_SECONDS)
    if failed:
        raise WorkerFailed(f"a worker process ended with exit code {failed[0]}; its error is above")
