"""More processes of the same command: `streamkit run --workers N`."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread

from streamkit.errors import WorkerFailed

_CLEAN = (0, 130)
"""Exit codes of a worker that was asked to stop."""


@contextmanager
def workers(count: int, arguments: Sequence[str], stop: Event) -> Iterator[None]:
    """Run `count` more processes of this command beside the body, and end with them.

    They are members of the app's group like any others. When one fails, `stop` is set and
    WorkerFailed is raised after the body; when the body ends, they are asked to stop as well,
    unless it ended without `stop`: then they come to their end by themselves. When this process is
    killed they go on, and share its tasks.
    """
    command = [sys.executable, "-m", "streamkit", *arguments]
    processes = [subprocess.Popen(command) for _ in range(count)]
    failed: list[int] = []

    def watch(process: "subprocess.Popen[bytes]") -> None:
        code = process.wait()
        if code not in _CLEAN:
            failed.append(code)
            stop.set()

    watchers = [Thread(target=watch, args=(process,), daemon=True) for process in processes]
    for watcher in watchers:
        watcher.start()
    error = True
    try:
        yield
        error = False
    finally:
        if error or stop.is_set():
            for process in processes:
                process.terminate()
        for watcher in watchers:
            watcher.join()
    if failed:
        raise WorkerFailed(f"a worker process ended with exit code {failed[0]}; its error is above")
