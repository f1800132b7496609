"""Waking a source when something in a directory changes. A hint only: listing tells the truth."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from watchdog.events import (
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from streamkit.connect import ConnectorLog


class _Waker(FileSystemEventHandler):
    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def on_any_event(self, event: FileSystemEvent) -> None:
        self._wake()


@contextmanager
def watching(
    directory: Path, wake: Callable[[], None], log: ConnectorLog, *, recursive: bool = False
) -> Iterator[None]:
    """Call `wake` (from another thread) after changes below `directory`.

    Where the system gives no such events (network mounts, no inotify watch left) nothing is
    called, and the source's own poll interval is what remains.
    """
    observer = Observer()
    try:
        observer.schedule(
            _Waker(wake),
            str(directory),
            recursive=recursive,
            # Not the events of opening and closing: our own reading would wake us.
            event_filter=[FileCreatedEvent, FileModifiedEvent, FileMovedEvent],
        )
        observer.start()
    except OSError as error:
        log.warning("no change events for %s (%s): polling only", directory, error)
        yield
        return
    try:
        yield
    finally:
        observer.stop()
        observer.join()
