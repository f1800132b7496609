"""Whether coroutines give their thread back: one that does not holds up all the others."""

import asyncio
import linecache
import logging
import sys
import threading
import traceback
from collections.abc import Callable

from streamkit.dsl.functions import Function
from streamkit.engine.traces import is_ours

logger = logging.getLogger("streamkit.engine")

BLOCKED = 1.0
"""Seconds after which it is worth a line."""


class Watch:
    """Of one loop: a thread that asks for its turn there now and then, as long as calls are made.

    What holds it up is told once for each step, with the line that does.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        watched: threading.Thread,
        is_busy: Callable[[], bool],
    ) -> None:
        """`is_busy` is asked in the loop: whether any call is being made."""
        self._loop = loop
        self._watched = watched
        self._is_busy = is_busy
        self._wanted = threading.Event()
        self._answered = threading.Event()
        self._closed = threading.Event()
        self._told: set[str] = set()
        threading.Thread(target=self._work, name="streamkit-watch", daemon=True).start()

    def begin(self) -> None:
        """From the loop: there is a call to be made."""
        self._wanted.set()

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._answered.set()
        self._wanted.set()

    def _work(self) -> None:
        while self._wanted.wait() and not self._closed.is_set():
            self._answered.clear()
            try:
                self._loop.call_soon_threadsafe(self._answer)
            except RuntimeError:
                return  # the loop is closed
            if not self._answered.wait(BLOCKED) and not self._closed.is_set():
                self._tell()
                self._answered.wait()
            self._closed.wait(BLOCKED / 4)

    def _answer(self) -> None:
        if not self._is_busy():
            self._wanted.clear()
        self._answered.set()

    def _tell(self) -> None:
        frame = sys._current_frames().get(self._watched.ident or 0)
        function: Function | None = None
        for each, _ in traceback.walk_stack(frame):
            request = each.f_locals.get("request") if is_ours(each.f_code.co_filename) else None
            if request is not None:
                function = request.function
                break
        name = "a coroutine" if function is None else function.described
        if name in self._told:
            return
        self._told.add(name)
        where = _line(traceback.extract_stack(frame), function)
        logger.warning(
            "%s has held up the other coroutines for %g s%s: what it calls does not give the "
            "thread back. Let it `await asyncio.to_thread(...)` there, or declare a plain `def` "
            "with workers=",
            name,
            BLOCKED,
            where,
        )


def _line(stack: traceback.StackSummary, function: Function | None) -> str:
    """Where it is: in the file of the function, if it came there, else in whatever is not ours."""
    own = getattr(getattr(function, "call", None), "__code__", None)
    found = [frame for frame in stack if own is not None and frame.filename == own.co_filename]
    found = found or [frame for frame in stack if not is_ours(frame.filename)]
    if not found:
        return ""
    last = found[-1]
    text = linecache.getline(last.filename, last.lineno or 0).strip()
    return f" at {last.filename}:{last.lineno} ({text})"
