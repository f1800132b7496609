"""Coroutines at work: an asyncio loop in a thread of its own."""

import asyncio
import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from math import inf
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

from streamkit.engine.failed import as_exception
from streamkit.engine.performing import Performance
from streamkit.engine.threads import Threads
from streamkit.engine.waiting import Answer, Request
from streamkit.engine.watch import Watch

logger = logging.getLogger("streamkit.engine")

T = TypeVar("T")

STOP_SECONDS = 5.0
"""How long coroutines that were cancelled have to come to their end."""
GIVE_UP_SECONDS = 1.0
"""How long one is waited for that was to end by itself, and was cancelled as it did not."""
LOOK_SECONDS = 0.05
"""How often who waits for a coroutine looks whether it still should."""


class Wanted(Protocol):
    """Who a call is made for."""

    closed: bool

    def done(self, step: str, number: int, answer: Answer) -> None: ...


async def answer_of(request: Request) -> Answer:
    """Make a call. What it raises is its answer, except when it is cancelled."""
    limit = asyncio.timeout(request.timeout)
    try:
        async with limit:
            performance = Performance(request)
            result: Any = request.function.call(*performance.arguments)
            if inspect.isasyncgen(result):
                result = iter([item async for item in result])
            else:
                result = await result
            return performance.answer(result)
    except TimeoutError as error:
        if not limit.expired():
            return Answer(error=error)
        late = TimeoutError(f"no answer within {request.timeout:g} s")
        late.__cause__ = error.__cause__  # it knows where the function stood
        return Answer(error=late)
    except Exception as error:
        return Answer(error=error)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return Answer(error=as_exception(error))  # the function's own doing
    except BaseException as error:
        # It ends neither the thread nor the app: that is for who waits for an answer to say.
        return Answer(error=as_exception(error))


class Loop:
    """The loop, and the thread, which begins at once. Used by one other thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(Threads())
        self._inbox: deque[tuple[Request, Wanted]] = deque()
        self._told = False
        self._tasks: dict[asyncio.Task[None], tuple[Request, Wanted]] = {}
        self._given_up: WeakSet[asyncio.Task[None]] = WeakSet()
        self._thread = threading.Thread(target=self._work, name="streamkit-async", daemon=True)
        self._thread.start()
        self._watch = Watch(self._loop, self._thread, lambda: bool(self._tasks))

    def start(self, request: Request, wanted: Wanted) -> None:
        """Make a call."""
        self._inbox.append((request, wanted))
        if not self._told:  # one word for many calls
            self._told = True
            self._loop.call_soon_threadsafe(self._begin)

    def forget(self, wanted: Wanted) -> None:
        """Cancel the calls made for somebody."""
        self._loop.call_soon_threadsafe(self._cancel, wanted)

    def run(
        self,
        coroutine: Coroutine[Any, Any, T],
        *,
        until: Callable[[], bool] = lambda: False,
        within: float = inf,
    ) -> T:
        """What a coroutine gives that is no call of a task's; raises what it raises.

        It is cancelled when `until` says so, and after `within` seconds: TimeoutError is raised
        then, whether it ends or not.
        """
        tasks: list[asyncio.Task[T]] = []
        ended: SimpleQueue[asyncio.Task[T]] = SimpleQueue()

        def begin() -> None:
            task = self._loop.create_task(coroutine)
            tasks.append(task)
            task.add_done_callback(ended.put)

        def cancel() -> None:
            tasks[0].cancel()

        self._loop.call_soon_threadsafe(begin)
        last = monotonic() + within
        cancelled = False
        while True:
            try:
                return ended.get(timeout=LOOK_SECONDS).result()
            except Empty:
                late = monotonic() > last
                if cancelled and late:
                    raise TimeoutError("it was cancelled, and is still at work") from None
                if not cancelled and (late or until()):
                    cancelled, last = True, monotonic() + GIVE_UP_SECONDS
                    self._loop.call_soon_threadsafe(cancel)
            except asyncio.CancelledError:
                long = f" as it took more than {within:g} s" if within < inf else ""
                raise TimeoutError(f"it was cancelled{long}") from None

    def rest(self) -> None:
        """Cancel all calls, and wait until they have come to their end, as far as they do."""
        try:
            self.run(self._rested(), within=STOP_SECONDS)
        except TimeoutError:
            logger.debug("coroutines that were cancelled are still at work")

    def close(self) -> None:
        """Cancel all calls, and end the thread when they have come to their end.

        What does not within `STOP_SECONDS` is left: it holds nothing of the app's.
        """
        self._watch.close()
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            names = sorted({request.function.described for request, _ in self._tasks.values()})
            logger.warning(
                "%s: cancelled, and still at work after %g s; it is not waited for",
                ", ".join(names) or "a coroutine",
                STOP_SECONDS,
            )

    # In the thread.

    def _work(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._end())
        finally:
            self._loop.close()

    async def _rested(self) -> None:
        self._cancel_all()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _end(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)
        # What functions, and what they use, have begun besides and left to itself.
        while rest := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in rest:
                task.cancel()
            await asyncio.wait(rest)
        await self._loop.shutdown_asyncgens()

    def _begin(self) -> None:
        self._told = False
        self._watch.begin()
        while self._inbox:
            request, wanted = self._inbox.popleft()
            if wanted.closed:
                continue
            task = self._loop.create_task(self._call(request, wanted), name=request.function.name)
            self._tasks[task] = request, wanted
            task.add_done_callback(self._tasks.pop)
            if request.timeout is not None:
                at = request.timeout + STOP_SECONDS
                last = self._loop.call_later(at, self._give_up, task)
                task.add_done_callback(lambda _, last=last: last.cancel())  # type: ignore[misc]

    async def _call(self, request: Request, wanted: Wanted) -> None:
        answer = await answer_of(request)
        if asyncio.current_task() not in self._given_up:
            wanted.done(request.step, request.number, answer)

    def _give_up(self, task: asyncio.Task[None]) -> None:
        """A call goes on though its time is up and it was cancelled: nobody waits for it."""
        request, wanted = self._tasks[task]
        self._given_up.add(task)
        error = TimeoutError(
            f"no answer within {request.timeout:g} s; it was cancelled, and is still at work"
        )
        wanted.done(request.step, request.number, Answer(error=error))

    def _cancel(self, wanted: Wanted) -> None:
        for task, (_, one) in list(self._tasks.items()):
            if one is wanted:
                task.cancel()

    def _cancel_all(self) -> None:
        for task in list(self._tasks):
            # Twice would cut off what it still has to await; but for one that has had its time.
            if task in self._given_up or not task.cancelling():
                task.cancel()

    def _stop(self) -> None:
        self._cancel_all()
        self._loop.stop()
