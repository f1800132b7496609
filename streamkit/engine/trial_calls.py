"""Calls in a test: one thread, a clock that jumps, and answers that come when the test lets them.

Coroutines run in a loop of their own, as far as they can, whenever answers are asked for. When all
of them sleep and the app has nothing else to do, the time they sleep for has passed. What is for
other processes is called in another thread, with what these would be given, and open for itself.
"""

import asyncio
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue
from random import Random
from typing import Any, TypeAlias, TypeVar

from streamkit.dsl.resources import Resource
from streamkit.engine.elsewhere import perform_as_elsewhere
from streamkit.engine.loop import answer_of
from streamkit.engine.opened import Opened
from streamkit.engine.pool import out_of_time
from streamkit.engine.waiting import Answer, Request
from streamkit.errors import FunctionError, UsageError

T = TypeVar("T")
End: TypeAlias = tuple[Any, BaseException | None]

_PATIENCE = 30.0
"""Seconds that functions may wait for the world outside, where all wait."""


class TrialCallers:
    """Makes calls for the tasks of a test, all members'."""

    def __init__(
        self,
        resources: Sequence[Resource[Any]] = (),
        given: Mapping[Resource[Any], Any] | None = None,
    ) -> None:
        """`resources` are what the functions use, and `given` what of them the test gives."""
        self.chance: Random | None = None
        """Lets answers come in any order, and later than they could."""
        self.tasks: list[TrialCalls] = []
        """Of all tasks at work."""
        self._loop: _Loop | None = None
        self._tasks: dict[asyncio.Task[Answer], tuple[TrialCalls, Request]] = {}
        # Not the test's own thread, which may be in a loop itself.
        self._thread: _Thread | None = None
        self._opened = Opened(resources, self._to_its_end, given=given)
        self._elsewhere = _Elsewhere(Opened(resources, None, given=given, late=True))

    def take_resources(self) -> None:
        """Resources are from now on what is open here."""
        self._opened.take()

    def open(self) -> None:
        """Open the resources that are not open yet. Raises FunctionError."""
        self._opened.take()
        self._opened.open()

    def close_resources(self) -> list[FunctionError]:
        """What went wrong when they were closed."""
        return [*self._elsewhere.close(), *self._opened.close()]

    def of_task(self) -> "TrialCalls":
        """Who makes the calls of a task."""
        calls = TrialCalls(self)
        self.tasks.append(calls)
        return calls

    def start(self, calls: "TrialCalls", request: Request) -> None:
        """Make a call."""
        if request.workers is not None:
            calls.done(request, self._elsewhere.perform(request))
            self._opened.take()
            return
        task = self._begun().create_task(answer_of(request))
        self._tasks[task] = calls, request

    def _begun(self) -> "_Loop":
        if self._loop is None:
            self._thread = _Thread()
            self._loop = _Loop()
        return self._loop

    def _to_its_end(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What a coroutine gives that is no call of a task's."""
        loop = self._begun()
        assert self._thread is not None
        task = loop.create_task(coroutine)
        waited = 0.0
        while not task.done() and not loop.is_stuck and waited < _PATIENCE:
            waited += self._thread.do(lambda: loop.run_some(0.1, [task]))
        if task.done():
            return task.result()
        task.cancel()
        self._thread.do(lambda: loop.run_some(0.0, [task]))
        raise TimeoutError("it waits for what does not come")

    def advance(self) -> None:
        """Let coroutines run until all of them wait for something."""
        if self._tasks:
            self._in_thread(0.0)

    def wait(self, timeout: float) -> None:
        """Like `proceed`, for who has no better to do."""
        self.proceed()

    def proceed(self) -> bool:
        """When there is nothing else to do: let time pass for coroutines until one has an answer.

        False when there is none that runs. Raises UsageError when they wait for what cannot come.
        """
        if not self._tasks:
            return False
        before = len(self._tasks)
        waited = 0.0
        while len(self._tasks) == before:
            assert self._loop is not None
            if self._loop.is_stuck:
                names = sorted({one.function.described for _, one in self._tasks.values()})
                raise UsageError(f"{', '.join(names)}: waits for what never comes")
            slept = self._in_thread(0.1)
            waited += slept
            if waited > _PATIENCE:
                names = sorted({one.function.described for _, one in self._tasks.values()})
                raise UsageError(f"{', '.join(names)}: no answer within {_PATIENCE:g} s")
        return True

    def cancel(self, calls: "TrialCalls") -> None:
        """A task was given up."""
        if calls in self.tasks:
            self.tasks.remove(calls)
        mine = [task for task, (one, _) in self._tasks.items() if one is calls]
        for task in mine:
            task.cancel()
        if mine:
            self._in_thread(0.0)
            for task in mine:
                self._tasks.pop(task, None)

    def close(self) -> None:
        """Cancel everything."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            self._in_thread(0.0)
        self._tasks.clear()
        self._loop = self._thread = None
        thread.do(loop.close)
        thread.close()

    def _in_thread(self, real: float) -> float:
        """Let the loop run; gives about how many seconds of real time that waited."""
        loop, tasks = self._loop, list(self._tasks)
        assert loop is not None and self._thread is not None
        slept = self._thread.do(lambda: loop.run_some(real, tasks))
        for task in [task for task in self._tasks if task.done()]:
            calls, request = self._tasks.pop(task)
            if not task.cancelled():
                calls.done(request, task.result())
        return slept


class TrialCalls:
    """The calls of one task of a test."""

    def __init__(self, callers: TrialCallers) -> None:
        self._callers = callers
        self._answers: deque[tuple[str, int, Answer]] = deque()

    def start(self, request: Request) -> None:
        """Make a call."""
        self._callers.start(self, request)

    def done(self, request: Request, answer: Answer) -> None:
        """A call has come to an end."""
        self._answers.append((request.step, request.number, answer))

    def answers(self) -> Iterator[tuple[str, int, Answer]]:
        """What has come; some of it, where chance has it so."""
        self._callers.advance()
        chance, some = self._callers.chance, len(self._answers)
        if chance is not None:
            chance.shuffle(self._answers)
            some = chance.randint(0, some)
        for _ in range(some):
            yield self._answers.popleft()

    @property
    def withheld(self) -> bool:
        """Whether there is more that has come."""
        return bool(self._answers)

    def close(self) -> None:
        """The task is given up."""
        self._callers.cancel(self)
        self._answers.clear()


class _Thread:
    """Another thread, for calls that are waited for.

    Not one of the standard library's executors: there an interrupt, at the wrong moment of handing
    something over, leaves a lock taken for ever.
    """

    def __init__(self) -> None:
        self._todo: SimpleQueue[tuple[Callable[[], Any], SimpleQueue[End]] | None] = SimpleQueue()
        threading.Thread(target=self._work, name="streamkit-test", daemon=True).start()

    def do(self, call: Callable[[], T], timeout: float | None = None) -> T:
        """What the call gives; raises what it raises, and Empty when it takes longer."""
        ends: SimpleQueue[End] = SimpleQueue()
        self._todo.put((call, ends))
        result: T
        result, error = ends.get(timeout=timeout)
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        """End it, once all is done that was to be."""
        self._todo.put(None)

    def _work(self) -> None:
        while (one := self._todo.get()) is not None:
            call, ends = one
            try:
                end: End = call(), None
            except BaseException as error:
                end = None, error
            ends.put(end)
            del one, call, ends, end


class _Elsewhere:
    """Stands for the processes of `workers=`: they have a thread, which has what they open."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._thread: _Thread | None = None

    def perform(self, request: Request) -> Answer:
        """Make a call. One whose time is up goes on, as no thread can be ended; in vain."""
        self._opened.take()
        if self._thread is None:
            self._thread = _Thread()
        try:
            return self._thread.do(lambda: perform_as_elsewhere(request), request.timeout)
        except Empty:
            self._thread.close()
            self._thread = None
            return out_of_time(request)

    def close(self) -> list[FunctionError]:
        """What went wrong when what is open was closed."""
        thread, self._thread = self._thread, None
        if thread is None:
            return self._opened.close()
        errors = thread.do(self._opened.close)
        thread.close()
        return errors


class _Loop(asyncio.SelectorEventLoop):
    """A loop whose time jumps to when something is to happen, when nothing else can."""

    def __init__(self) -> None:
        self._moment = 0.0
        self._jumping = _Selector(self)
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._moment

    def run_some(self, patience: float, tasks: list[asyncio.Task[Any]]) -> float:
        """Run until nothing happens by itself; then, with `patience` in seconds, until something
        has. Gives for how long that took real time."""
        self._until_quiet()
        if not patience or any(task.done() for task in tasks):
            return 0.0
        slept = self._jumping.pass_time(patience)
        self._until_quiet()
        return slept

    def _until_quiet(self) -> None:
        while True:
            self.call_soon(self.stop)
            self.run_forever()
            if not self._ready:  # type: ignore[attr-defined]
                return

    @property
    def is_stuck(self) -> bool:
        """Whether nothing can happen any more: no timer, no connection, no thread."""
        return not self.next_timer() and not self.is_outside and not self._ready  # type: ignore[attr-defined]

    @property
    def is_outside(self) -> bool:
        """Whether something waits for the world, whose time does not jump."""
        return len(self._jumping.get_map()) > 1 or self._default_executor is not None  # type: ignore[attr-defined]

    def next_timer(self) -> float | None:
        """When the next of those that wait for a time is to go on."""
        live = [handle.when() for handle in self._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]
        return min(live, default=None)

    def jump(self, moment: float) -> None:
        """It is later now."""
        self._moment = max(self._moment, moment)


class _Selector(selectors.DefaultSelector):
    """Never sleeps by itself."""

    def __init__(self, loop: _Loop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        return super().select(0)

    def pass_time(self, patience: float) -> float:
        """Sleep for real where the world outside is waited for, else jump; seconds slept."""
        when = self._loop.next_timer()
        if not self._loop.is_outside:
            if when is not None:
                self._loop.jump(when)
            return 0.0
        until = patience if when is None else min(patience, max(0.0, when - self._loop.time()))
        before = time.monotonic()
        super().select(until)
        slept = time.monotonic() - before
        self._loop.jump(self._loop.time() + slept)
        return slept
