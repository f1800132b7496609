"""The thread that does maintenance every second, in one of the processes that use a log."""

import logging
import threading
from collections.abc import Callable
from weakref import WeakMethod

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
CLOSING_SECONDS = 10.0
"""How long closing a log waits for a pass that is under way."""


class Ticker:
    """Calls `tick` about every second from `start` on, until it is closed or its owner is gone."""

    def __init__(self, tick: Callable[[bool], float]) -> None:
        """`tick`: a bound method. Its argument says whether somebody has asked for it; it returns
        the seconds until the next."""
        self._tick = WeakMethod(tick)
        self.forked()

    def forked(self) -> None:
        """In a forked child: there is no thread yet."""
        self._starting = threading.Lock()
        self._signal = threading.Event()
        self._asked = False
        self._closed = False
        self._interval = TICK_SECONDS
        self._thread: threading.Thread | None = None

    @property
    def started(self) -> bool:
        return self._thread is not None

    def start(self) -> None:
        """Begin to tick, a second from now. Twice is fine."""
        with self._starting:
            if self._thread is None and not self._closed:
                thread = threading.Thread(
                    target=_run, args=(self,), name="streamkit-maintenance", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError:  # the interpreter is ending
                    return
                self._thread = thread

    def ask(self) -> None:
        """Have it tick now."""
        self._asked = True
        self._signal.set()

    def close(self) -> None:
        """End the thread, and wait for what it is doing."""
        with self._starting:
            self._closed = True
            self._signal.set()
            thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSING_SECONDS)

    @property
    def closed(self) -> bool:
        """Whether what is under way should come to an end."""
        return self._closed

    def _turn(self) -> bool:
        """Wait for the next tick, and do it; False when it was the last."""
        self._signal.wait(self._interval)
        self._signal.clear()
        asked, self._asked = self._asked, False
        tick = self._tick()
        if tick is None or self._closed:
            return False
        self._interval = TICK_SECONDS
        try:
            self._interval = tick(asked)
        except Exception:
            # A fault of ours: the next tick may do better, and appends go on without it.
            logger.exception("maintenance failed")
        return True


def _run(ticker: Ticker) -> None:
    while ticker._turn():
        pass
