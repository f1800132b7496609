"""Who makes the calls of a process's tasks: a thread with an asyncio loop, and worker processes.

Both are started with the first call for them. An answer wakes whoever waits for records.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from streamkit.engine.loop import Loop
from streamkit.engine.pool import Pool
from streamkit.engine.waiting import Answer, Calls, Request


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

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` is called, from another thread, when an answer is there."""
        self._wake = wake
        self._told = threading.Event()
        self._loop: Loop | None = None
        self._pools: dict[str, Pool] = {}

    def of_task(self) -> Answered:
        """Who makes the calls of a task."""
        return Answered(self)

    def start(self, request: Request, task: Answered) -> None:
        """Make a call; `task.done` is told."""
        if request.workers is None:
            if self._loop is None:
                self._loop = Loop()
            self._loop.start(request, task)
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
        """Stop all calls."""
        loop, self._loop = self._loop, None
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.stop()
        if loop is not None:
            loop.close()
        for pool in pools.values():
            pool.close()
