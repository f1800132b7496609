"""What ends a turn in time: a function may take longer than anybody could have known.

How many records a task processes before others have their turn is reckoned from how long they took
so far. A thread looks now and then whether a turn has taken too long all the same.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOOK = 0.05
"""Seconds between two looks, while somebody is at work. Turns take no less."""


class Bell:
    """For one thread that takes turns. The other one begins with the first turn, and sleeps when
    there is none."""

    def __init__(self) -> None:
        self._turn: tuple[float, Callable[[], None]] | None = None
        self._wanted = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    @contextmanager
    def at(self, moment: float, ring: Callable[[], None]) -> Iterator[None]:
        """Meanwhile: call `ring`, from the other thread, at some time (monotonic seconds)."""
        self._turn = moment, ring
        if not self._wanted.is_set():
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._look, name="streamkit-bell", daemon=True
                )
                self._thread.start()
            self._wanted.set()
        try:
            yield
        finally:
            self._turn = None

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self) -> None:
        while self._wanted.wait() and not self._closed:
            time.sleep(LOOK)
            turn = self._turn
            if turn is None:
                self._wanted.clear()
                if self._turn is not None or self._closed:  # it came just now
                    self._wanted.set()
            elif time.monotonic() >= turn[0]:
                turn[1]()
