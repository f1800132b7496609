"""Who makes the calls of a process's tasks: a thread with an asyncio loop, and worker processes.

Both are started with the first call for them, the loop also for a resource that is opened in it. An
answer wakes whoever waits for records.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from streamkit.dsl.resources import Resource
from streamkit.engine.loop import STOP_SECONDS, Loop
from streamkit.engine.opened import Opened
from streamkit.engine.pool import Pool
from streamkit.engine.traces import places_of
from streamkit.engine.waiting import Answer, Calls, Request
from streamkit.errors import FunctionError, UsageError

logger = logging.getLogger("streamkit.engine")

T = TypeVar("T")


class TaskCalls(Calls, Protocol):
    """The calls of one task, until it is given up."""

    def close(self) -> None:
        """Nobody wants the answers any more: what can be stopped is."""


class Callers(Protocol):
    """Makes calls for all tasks of a process."""

    def of_task(self) -> TaskCalls: ...

    def wait(self, timeout: float) -> None:
        """Until an answer has come, or for so many seconds."""

    def close(self) -> None: ...


class Answered:
    """What has come for one task. Its answers come from other threads."""

    def __init__(self, callers: "LiveCallers") -> None:
        self.closed = False
        self._callers = callers
        self._answers: deque[tuple[str, int, Answer]] = deque()

    def start(self, request: Request) -> None:
        """Make a call."""
        self._callers.start(request, self)

    def done(self, step: str, number: int, answer: Answer) -> None:
        """From another thread: a call has come to an end."""
        if not self.closed:
            self._answers.append((step, number, answer))
            self._callers.told()

    def answers(self) -> Iterator[tuple[str, int, Answer]]:
        """What has come since last time."""
        while self._answers:
            yield self._answers.popleft()

    def close(self) -> None:
        """The task is given up."""
        if not self.closed:
            self.closed = True
            self._answers.clear()
            self._callers.forget(self)


class LiveCallers:
    """See the module. Used by the thread that has the tasks."""

    def __init__(self, wake: Callable[[], None], resources: Sequence[Resource[Any]] = ()) -> None:
        """`wake` is called, from another thread, when an answer is there. `resources` are what the
        functions use: open from `open` to `close`."""
        self._wake = wake
        self._told = threading.Event()
        self._loop: Loop | None = None
        self._pools: dict[str, Pool] = {}
        self._resources = tuple(resources)
        self._opened: Opened | None = None
        self._opening: threading.Event | None = None
        """While resources are opened: when that is to be given up."""

    def open(self, stop: threading.Event) -> None:
        """Open the resources; when `stop` is set meanwhile, not all of them.

        Raises FunctionError when one cannot be opened, and UsageError when they are open already.
        """
        taken = next((one for one in self._resources if one.holder is not None), None)
        if taken is not None:
            raise UsageError(
                f"resource {taken.described} is open already, as its app runs in this process; "
                "run it there once at a time, or in another process"
            )
        self._opened = Opened(self._resources, self._in_loop)
        self._opened.take()
        self._opening = stop
        try:
            self._opened.open(stop.is_set)
        except FunctionError:
            if not stop.is_set():
                raise
        finally:
            self._opening = None

    def _in_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._opening is not None:
            return self._begun().run(coroutine, until=self._opening.is_set)
        return self._begun().run(coroutine, within=STOP_SECONDS)

    def _begun(self) -> Loop:
        if self._loop is None:
            self._loop = Loop()
        return self._loop

    def of_task(self) -> Answered:
        """Who makes the calls of a task."""
        return Answered(self)

    def start(self, request: Request, task: Answered) -> None:
        """Make a call; `task.done` is told."""
        if request.workers is None:
            self._begun().start(request, task)
            return
        pool = self._pools.get(request.step)
        if pool is None:
            pool = self._pools[request.step] = Pool(request.function, request.workers)
        pool.start(request, task)

    def told(self) -> None:
        """From another thread: an answer is there."""
        self._told.set()
        self._wake()

    def wait(self, timeout: float) -> None:
        """Until an answer has come, or for so many seconds."""
        self._told.wait(timeout)
        self._told.clear()

    def forget(self, task: Answered) -> None:
        """Stop the calls of a task."""
        if self._loop is not None:
            self._loop.forget(task)

    def close(self) -> None:
        """Stop all calls, and close what they were made with."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.stop()
        try:
            self._close_resources()
        finally:
            loop, self._loop = self._loop, None
            if loop is not None:
                loop.close()
            for pool in pools.values():
                pool.close()

    def _close_resources(self) -> None:
        opened, self._opened = self._opened, None
        if opened is None:
            return
        if self._loop is not None and self._resources:
            self._loop.rest()
        for error in opened.close():
            places = places_of(error.__cause__ or error)
            logger.error("%s%s", error, f" (at {places[-1]})" if places else "")
