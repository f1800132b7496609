"""A clean stop: the first SIGINT or SIGTERM asks for it, a second SIGINT does not wait."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from types import FrameType


class Stop(Event):
    """Set when the process is to finish. `signal` says by which signal, 0 when by none."""

    def __init__(self) -> None:
        super().__init__()
        self.signal = 0

    @property
    def interrupted(self) -> bool:
        """Whether it was Ctrl-C, which programs answer with exit code 130."""
        return self.signal == signal.SIGINT


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Give out an event that Ctrl-C and SIGTERM set, and put the old handlers back after."""
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.signal = stop.signal or number
        # Not from here: the interrupted code may stand inside the event and hold its lock.
        Thread(target=stop.set, daemon=True).start()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
