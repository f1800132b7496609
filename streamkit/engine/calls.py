"""Call users' functions with what they asked for."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from streamkit.dsl.context import Context
from streamkit.dsl.functions import Function
from streamkit.dsl.state import Cells, Place
from streamkit.dsl.stores import state_name
from streamkit.dsl.timers import Asked, Timer
from streamkit.dsl.windows import Window
from streamkit.engine.cursor import Cursor
from streamkit.engine.cursor import Place as At
from streamkit.errors import SerdeError
from streamkit.records import Headers, Record
from streamkit.serde import Serde

if TYPE_CHECKING:
    from streamkit.engine.site import Marked


class Drawing:
    """How often a function has drawn from the coordinates of the record at hand."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def marks(self, at: At) -> tuple[int, ...]:
        """It, if the function was given something of the record of that place."""
        drawn = self._context.drawn(at)
        return (drawn,) if drawn and self._context.offset >= 0 else ()

    def begin_at(self, at: At, marks: tuple[int, ...]) -> None:
        """As it was."""
        self._context.go_on(at, *marks)


class Calls:
    """Binds functions to one task: its stores, its cursor, and how it sends (`Context.send`)."""

    def __init__(
        self,
        cursor: Cursor,
        stores: Mapping[str, Cells],
        send: Callable[[str, Any, Any, int], None],
        marked: "dict[str, Marked]",
    ) -> None:
        """`marked`: what knows something in the middle of what a record has brought about."""
        self.ordinal: int | None = None
        """The number of the event at hand among those made of its record, where that is known."""
        self._cursor = cursor
        self._stores = stores
        self._send = send
        self._marked = marked

    def plain(self, function: Function) -> Callable[..., Any] | None:
        """The function itself, when it wants nothing but the event's value."""
        if function.extras or function.wants_record or function.is_timed:
            return None
        return function.call

    def event(
        self, function: Function, key: Serde, asked: Asked | None = None
    ) -> Callable[[Any, Any, int, Headers], Any]:
        """To be called with key, value, event time, headers.

        `asked` takes the timers that it asks for; None: it may ask for none.
        """
        call = function.call
        if self.plain(function) is not None:
            return lambda key, value, stamp, headers: call(value)
        prepare, extras = self._prepare(function, key, asked)
        if not function.wants_record:

            def of_value(key: Any, value: Any, stamp: int, headers: Headers) -> Any:
                prepare(key, stamp, headers)
                return call(value, *extras)

            return of_value

        record = self._record(function)

        def of_event(key: Any, value: Any, stamp: int, headers: Headers) -> Any:
            prepare(key, stamp, headers)
            return call(record(key, value, stamp, headers), *extras)

        return of_event

    def joined(
        self, function: Function, key: Serde
    ) -> Callable[[Any, Any, Any, int, Headers], Any]:
        """To be called with key, value, the table's row, event time, headers."""
        call = function.call
        if self.plain(function) is not None:
            return lambda key, value, row, stamp, headers: call(value, row)
        prepare, extras = self._prepare(function, key)
        record = self._record(function)

        def of_both(key: Any, value: Any, row: Any, stamp: int, headers: Headers) -> Any:
            prepare(key, stamp, headers)
            return call(record(key, value, stamp, headers), row, *extras)

        return of_both

    def timer(self, function: Function, key: Serde, asked: Asked) -> Callable[[Timer], Any]:
        """To be called with a timer that is due; `asked` takes those that are asked for."""
        call = function.call
        prepare, extras = self._prepare(function, key, asked)
        contexts, cursor = [extra for extra in extras if isinstance(extra, Context)], self._cursor

        def of_timer(timer: Timer) -> Any:
            prepare(timer.key, timer.timestamp, ())
            for context in contexts:
                context.at_timer(timer, cursor.root)
            return call(timer, *extras)

        return of_timer

    def folding(
        self, function: Function, key: Serde
    ) -> Callable[[Any, Any, Any, int, Headers, int, int], Any]:
        """To be called with the value so far, key, value, event time, headers, window start, end.

        Where there is no window they are any.
        """
        call = function.call
        if self.plain(function) is not None:
            return lambda sofar, key, value, stamp, headers, start, end: call(sofar, value)
        if function.is_timed:
            return lambda sofar, key, value, stamp, headers, start, end: call(sofar, value, stamp)
        prepare, extras = self._prepare(function, key)
        record = self._record(function)
        if "window" not in function.extras:

            def fold(
                sofar: Any, key: Any, value: Any, stamp: int, headers: Headers, start: int, end: int
            ) -> Any:
                prepare(key, stamp, headers)
                return call(sofar, record(key, value, stamp, headers), *extras)

            return fold

        at = function.extras.index("window")
        before, after = extras[:at], extras[at + 1 :]
        window = Window(0, 0)  # the last one asked for: most events fall into it again

        def fold_in_window(
            sofar: Any, key: Any, value: Any, stamp: int, headers: Headers, start: int, end: int
        ) -> Any:
            nonlocal window
            prepare(key, stamp, headers)
            if window.start != start or window.end != end:
                window = Window(start, end)
            return call(sofar, record(key, value, stamp, headers), *before, window, *after)

        return fold_in_window

    def _record(self, function: Function) -> Callable[[Any, Any, int, Headers], Any]:
        cursor = self._cursor
        if not function.wants_record:
            return lambda key, value, stamp, headers: value
        return lambda key, value, stamp, headers: Record(
            cursor.topic, cursor.partition, cursor.offset, stamp, key, value, headers
        )

    def _prepare(
        self, function: Function, key: Serde, asked: Asked | None = None
    ) -> tuple[Callable[[Any, int, Headers], None], tuple[Any, ...]]:
        """What to do before each call, and the extra arguments; a window's place stays empty."""
        cursor = self._cursor
        # One of its own: a generator goes on after later functions have looked at theirs.
        context = Context(function.name, self._send, asked)
        write, encode, name = key.write, key.encode, function.described
        current = Place()
        extras: list[Any] = []
        for extra in function.extras:
            if extra == "context":
                extras.append(context)
            elif extra == "window":
                extras.append(None)
            else:
                keeper = function.keeper or function.name
                store = self._stores[state_name(keeper, extra.parameter)]
                extras.append(extra.bound(store, current))
        keyed, contextual = bool(function.states), "context" in function.extras
        if contextual:
            self._marked[f"{function.name}()"] = Drawing(context)

        def place(key: Any, stamp: int, headers: Headers) -> None:
            try:
                data = write(key)
            except Exception:
                data = encoded(key)
            if data is None:
                raise cursor.keyless(f"the State of {name}")
            current.key = data
            current.stamp = stamp

        def encoded(key: Any) -> bytes | None:
            """With care: for keys that are missing, and to say what is wrong."""
            try:
                return encode(key)
            except SerdeError as error:
                raise cursor.unwritable(f"key for the State of {name}", error) from error

        def prepare(key: Any, stamp: int, headers: Headers) -> None:
            if contextual:
                at = (cursor.topic, cursor.partition, cursor.offset)
                context.at(*at, key, stamp, headers, self.ordinal, cursor.part, cursor.root)
            if keyed:
                place(key, stamp, headers)

        return place if keyed and not contextual else prepare, tuple(extras)
