"""What an app opens once in each of its processes: opened here, kept, and closed.

In the order of declaration before the first event, and closed in the other order after the last.
Those that are lazy are opened when somebody asks for them, in whatever thread that is.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any, Protocol, TypeVar

from streamkit.dsl.resources import Resource, unopened
from streamkit.engine.failed import as_exception, told
from streamkit.errors import FunctionError, UsageError, nearest

logger = logging.getLogger("streamkit.engine")

T = TypeVar("T")

LONG = 2.0
"""Seconds after which a line says what is being waited for."""


class InLoop(Protocol):
    """Runs a coroutine to its end in the loop of the app's coroutines, and gives what it gives."""

    def __call__(self, coroutine: Coroutine[Any, Any, T], /) -> T: ...


class Opened:
    """See the module. What is asked of it comes from any thread, all else from one."""

    def __init__(
        self,
        resources: Sequence[Resource[Any]],
        in_loop: InLoop | None,
        *,
        given: Mapping[Resource[Any], Any] | None = None,
        late: bool = False,
    ) -> None:
        """`in_loop`: None where there is no loop, and coroutines have nothing. `given` are those
        that somebody else has opened. `late`: all are opened only when they are asked for."""
        self._resources = tuple(resources)
        self._in_loop = in_loop
        self._given = dict(given or {})
        self._late = late
        self._lock = threading.RLock()
        self._values: dict[Resource[Any], Any] = dict(self._given)
        self._closers: list[tuple[Resource[Any], Callable[[], None]]] = []
        self._opening: list[Resource[Any]] = []
        unknown = [one for one in self._given if one not in self._resources]
        if unknown:
            raise UsageError(_not_there(unknown[0], self._resources))

    def take(self) -> None:
        """From now on resources are what is open here."""
        for one in self._resources:
            one.holder = self

    def open(self, until: Callable[[], bool] = lambda: False) -> None:
        """Open all that are to be open before anybody asks; `until` is asked before each.

        Raises FunctionError when one cannot be opened.
        """
        for one in self._resources:
            if until():
                return
            if not (one.lazy or self._late or one in self._values):
                self._open(one)

    def value_of(self, resource: Resource[T]) -> T:
        """What is open. Raises UsageError when it is not."""
        try:
            value: T = self._values[resource]
        except KeyError:
            pass  # what is raised for it below is not about this one
        else:
            return value
        return self._asked(resource)

    def close(self) -> list[FunctionError]:
        """Close all, whatever becomes of each, and give up the names; what went wrong."""
        errors = []
        while self._closers:
            resource, close = self._closers.pop()
            try:
                with _telling(resource, "closed"):
                    close()
            except (Exception, SystemExit) as error:
                errors.append(_failed(resource, "closed", error))
            del self._values[resource]
        self._values = dict(self._given)
        for one in self._resources:
            if one.holder is self:
                one.holder = None
        return errors

    def _asked(self, resource: Resource[T]) -> T:
        if not (resource.lazy or self._late):
            raise UsageError(self._too_early(resource))
        if resource.is_async:
            raise UsageError(
                f"resource {resource.described} is async: it is open in the loop of the app's "
                "coroutines, which the processes of workers= do not have; give their functions a "
                "plain one"
            )
        with self._lock:
            if resource not in self._values:
                if resource in self._opening:
                    raise UsageError(self._too_early(resource))
                self._open(resource)
            value: T = self._values[resource]
        return value

    def _too_early(self, resource: Resource[Any]) -> str:
        if not self._opening:
            return unopened(resource)
        asking = self._opening[-1]
        if asking is resource:
            return f"resource {resource.described} asks for itself"
        return (
            f"resource {resource.described} is not open yet when {asking.described} asks for it: "
            "declare it before that one"
        )

    def _open(self, resource: Resource[Any]) -> None:
        self._opening.append(resource)
        try:
            with _telling(resource, "opened"):
                value, close = self._begun(resource)
        except Exception as error:
            raise _failed(resource, "opened", error) from error
        finally:
            self._opening.pop()
        self._values[resource] = value
        self._closers.append((resource, close))

    def _begun(self, resource: Resource[Any]) -> tuple[Any, Callable[[], None]]:
        call = resource.__wrapped__
        if not resource.is_async:
            if not resource.generates:
                return call(), lambda: None
            stack = ExitStack()
            return stack.enter_context(contextmanager(call)()), stack.close
        in_loop = self._in_loop
        assert in_loop is not None, "those of coroutines are opened where these are"
        if not resource.generates:
            return in_loop(_awaited(call)), lambda: None
        kept = _Kept(resource)
        return in_loop(kept.open()), lambda: in_loop(kept.close())


def _not_there(one: object, resources: Sequence[Resource[Any]]) -> str:
    """What to say of one that is given for another, and is none of the app's."""
    name = str(getattr(one, "__name__", one))
    same = next((each.described for each in resources if each.__name__ == name), None)
    if same is None:
        return f"the app has no resource {name!r}{nearest(name, [r.__name__ for r in resources])}"
    if isinstance(one, Resource):
        return (
            f"resource {one.described} is not this app's: its own is {same}. Import it from the "
            "module that the app is from"
        )
    return f"give the resource itself, and not its name: resources={{{name}: ...}}"


class _Kept:
    """An asynchronous generator in a task of its own, from its beginning to its end: what it opens
    may be for the task to close that opened it, a group of tasks above all."""

    def __init__(self, resource: Resource[Any]) -> None:
        self._resource = resource

    async def open(self) -> Any:
        loop = asyncio.get_running_loop()
        self._given: asyncio.Future[Any] = loop.create_future()
        self._ending = asyncio.Event()
        self._task = loop.create_task(self._keep(), name=self._resource.__name__)
        try:
            await asyncio.wait([self._task, self._given], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait([self._task])
            raise
        return self._given.result() if self._given.done() else self._task.result()

    async def _keep(self) -> None:
        try:
            async with asynccontextmanager(self._resource.__wrapped__)() as value:
                self._given.set_result(value)
                self._task.add_done_callback(self._ended)
                await self._ending.wait()
        except SystemExit as error:
            raise as_exception(error) from error

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not self._ending.is_set():
            why = "" if task.cancelled() else f": {told(task.exception() or RuntimeError())}"
            logger.error("resource %s came to its end by itself%s", self._resource.described, why)

    async def close(self) -> None:
        was_open = not self._task.done()
        self._ending.set()
        if was_open:  # else that was told when it happened
            await self._task


async def _awaited(call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    try:
        return await call()
    except SystemExit as error:  # it would end the loop, and nobody would hear of it
        raise as_exception(error) from error


def _failed(resource: Resource[Any], what: str, error: BaseException) -> FunctionError:
    failed = FunctionError(f"resource {resource.described} could not be {what}: {told(error)}")
    failed.__cause__ = error
    return failed


@contextmanager
def _telling(resource: Resource[Any], what: str) -> Iterator[None]:
    """Say what is being waited for, when that takes long."""
    text = "resource %s: still being %s, since %g s"
    timer = threading.Timer(LONG, logger.warning, (text, resource.described, what, LONG))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
