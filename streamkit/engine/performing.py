"""Call a function as a request says: its arguments, and its answer made of what it returned."""

from collections.abc import Iterator
from typing import Any

from streamkit.dsl.context import Context
from streamkit.engine.failed import as_exception
from streamkit.engine.frames import frame_of, rows_of
from streamkit.engine.waiting import Answer, Request
from streamkit.errors import UsageError


class Performance:
    """One call. Whoever makes it calls `request.function.call(*arguments)`, in whatever way, and
    gives what came of it to `answer`.

    For a pickled request: what is sent with the Context is collected, and sent when the results are
    given.
    """

    __slots__ = ("_ended", "_function", "_sent", "arguments")

    def __init__(self, request: Request) -> None:
        function, event = request.function, request.event
        self._function = function
        self._sent: list[tuple[str, Any, Any, int]] = []
        self._ended = False
        given = request.given
        if function.batch is not None:
            given = frame_of(given, function.batch, function)
        self.arguments: tuple[Any, ...] = (given,)
        if "context" in function.extras:
            context = Context(function.name, self._send)
            # Of its own, so that draws have to be told from those for other events of the record.
            at = (event.topic, event.partition, event.offset, event.key, event.stamp)
            context.at(*at, event.headers, event.ordinal, root=event.root)
            self.arguments = (given, context)

    def _send(self, topic: str, key: Any, value: Any, stamp: int) -> None:
        if self._ended:
            raise UsageError(
                f"{self._function.described}: its call has ended, and what it sends now would be "
                "lost; wait for whatever sends before it returns"
            )
        self._sent.append((topic, key, value, stamp))

    def answer(self, result: Any) -> Answer:
        """What is made of what was returned: of a generator all that it gives, now."""
        whole = self._whole(result)
        self._ended = True
        return Answer(whole, sent=tuple(self._sent))

    def _whole(self, result: Any) -> Any:
        if result is None:
            return None
        if self._function.batch is not None:
            return rows_of(result, self._function)
        if isinstance(result, Iterator):
            return iter(list(result))
        return result


def perform(request: Request) -> Answer:
    """Make a call here and now. What it raises is its answer."""
    try:
        performance = Performance(request)
        return performance.answer(request.function.call(*performance.arguments))
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        return Answer(error=as_exception(error))
