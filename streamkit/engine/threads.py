"""Threads for what coroutines would block in (`asyncio.to_thread`), which nobody waits for.

The threads of the standard library's executors are joined when the process ends, so that a call
that was cancelled would hold up its end for as long as it takes.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

MOST = 64
"""Threads at once; what is more waits for one of them."""


class Threads(ThreadPoolExecutor):
    """To be the default executor of a loop, which takes no other kind. Begins each thread as it is
    needed; those of the class it is made of are never begun."""

    def __init__(self) -> None:
        super().__init__(MOST, "streamkit-thread")
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._begun = 0
        self._idle = 0
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Call a function in one of the threads."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the loop is closed, and its threads with it")
            self._calls.put((future, lambda: fn(*args, **kwargs)))
            if self._idle > 0:
                self._idle -= 1
            elif self._begun < MOST:
                self._begun += 1
                name = f"streamkit-thread-{self._begun}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Begin no more calls; does not wait for those that are being made."""
        with self._lock:
            self._closed = True
            for _ in range(self._begun):
                self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            future, function = call
            if future.set_running_or_notify_cancel():
                try:
                    result = function()
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            del call, future, function
            with self._lock:
                self._idle += 1
