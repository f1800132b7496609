"""A clean stop: the first SIGINT or SIGTERM asks for it, a second SIGINT does not wait.

A handler runs between any two steps of the main thread, which may stand in the middle of taking a
lock. So ours takes none, starts nothing and raises nothing the first time: it leaves a number
where everybody who waits looks, many times a second.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from threading import Event
from time import monotonic
from types import FrameType

LOOK_SECONDS = 0.05
"""How often somebody who waits for the stop itself looks for the signal's number."""


class Stop(Event):
    """Set when the process is to finish. `signal` says by which signal, 0 when by none."""

    def __init__(self) -> None:
        super().__init__()
        self.signal = 0

    @property
    def interrupted(self) -> bool:
        """Whether it was Ctrl-C, which programs answer with exit code 130."""
        return self.signal == signal.SIGINT

    def is_set(self) -> bool:
        return self.signal != 0 or super().is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Until it is set: at once when a thread did that, and soon when a signal did."""
        until = inf if timeout is None else monotonic() + timeout
        while not self.is_set():
            left = until - monotonic()
            if left <= 0:
                return False
            super().wait(min(left, LOOK_SECONDS))
        return True

    def clear(self) -> None:
        """Forget both."""
        self.signal = 0
        super().clear()


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Give out an event that Ctrl-C and SIGTERM set, and put the old handlers back after.

    Only in the main thread. They count also where they were ignored before, as shells have it for
    what they start in the background: whoever sends one to this process means it.
    """
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.signal = stop.signal or number

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            # None: it was not Python that set it, and so it cannot be set again from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
