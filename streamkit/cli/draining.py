"""Time for a process to finish what it is at, once it is to stop."""

import os
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import streamkit

LOOK_SECONDS = 0.2
_OURS = str(Path(streamkit.__file__).parent)


@contextmanager
def drained(stop: Event, seconds: float) -> Iterator[None]:
    """End this process, with 1, when the body has not ended so long after `stop` was set.

    A function that does not return can be ended in no other way. Nothing is lost: what was not
    committed is done again by whoever has the task next.
    """
    done = Event()
    main = threading.get_ident()

    def watch() -> None:
        while not stop.is_set():
            if done.wait(LOOK_SECONDS):
                return
        if not done.wait(seconds):
            where = _where(main)
            print(
                f"error: still at work {seconds:g} s after it was to stop, {where}; ended without "
                "a commit: what was not committed is done again",
                file=sys.stderr,
                flush=True,
            )
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _where(thread: int) -> str:
    """The line of the user's code, or of ours, that a thread is at."""
    frame = sys._current_frames().get(thread)
    frames = traceback.extract_stack(frame) if frame is not None else []
    theirs = [one for one in frames if not one.filename.startswith((_OURS, "<"))]
    inner = frames[-1:] if frames and frames[-1].filename.startswith(_OURS) else theirs[-1:]
    return f"at {inner[0].filename}:{inner[0].lineno} in {inner[0].name}" if inner else "somewhere"
