"""The steps that most events take, where functions want nothing but values."""

from collections.abc import Callable
from struct import Struct
from typing import Any, TypeAlias

from streamkit.codec import has_null
from streamkit.dsl.functions import Function
from streamkit.dsl.nodes.in_order import Place
from streamkit.engine.cursor import Cursor
from streamkit.engine.headers import FRONTIER, ORIGIN, ROOT, WATERMARK
from streamkit.engine.hot.outlet import Outlet
from streamkit.engine.roots import nth
from streamkit.errors import SerdeError
from streamkit.records import Headers
from streamkit.serde import Serde, Untyped

Forward: TypeAlias = Callable[[Any, Any, int, Headers], None]
"""Gives an event to the next step: key, value, event time in ms, headers."""

_PARTITION, _OFFSET = Struct(">I"), Struct(">Q")
_TOLD = {FRONTIER, ORIGIN, ROOT, WATERMARK}
"""The headers that a reader of a repartition topic looks at, when they are the last."""

_SIMPLE = (str, bytes, int, float, bool)
_PLAIN = (*_SIMPLE, *(one | None for one in _SIMPLE), Any, Untyped)
"""Types of whose values nothing is left to look at, or nothing is known."""
_FIRST, _APART, _NEVER = 100, 1000, 1 << 62


class Step:
    """What happens to an event; `give` is a Forward. One step gives to the next without Python's
    calls between them, as far as both are of this kind."""

    __slots__ = ()

    def give(self, key: Any, value: Any, stamp: int, headers: Headers) -> None:
        """Take an event: key, value, event time in ms, headers."""
        raise AssertionError("a step does something")


class Call(Step):
    """Any other Forward."""

    __slots__ = ("_call",)

    def __init__(self, call: Forward) -> None:
        self._call = call

    def give(self, key: Any, value: Any, stamp: int, headers: Headers) -> None:
        self._call(key, value, stamp, headers)


def step_of(forward: Forward) -> Step:
    """The step that a Forward is the `give` of."""
    step = getattr(forward, "__self__", None)
    return step if isinstance(step, Step) else Call(forward)


class All(Step):
    """One after the other."""

    __slots__ = ("_steps",)

    def __init__(self, steps: list[Forward]) -> None:
        self._steps = [step_of(each) for each in steps]

    def give(self, key: Any, value: Any, stamp: int, headers: Headers) -> None:
        for step in self._steps:
            step.give(key, value, stamp, headers)


class Filter(Step):
    """Only the events for whose values a function gives something true."""

    __slots__ = ("_call", "_cursor", "_function", "_next")

    def __init__(self, function: Function, cursor: Cursor, forward: Forward) -> None:
        self._call = function.call
        self._function = function
        self._cursor = cursor
        self._next = step_of(forward)

    def give(self, key: Any, value: Any, stamp: int, headers: Headers) -> None:
        keep = False
        try:
            keep = bool(self._call(value))
        except Exception as error:
            self._cursor.fail(self._function, key, error)
        if keep:
            self._next.give(key, value, stamp, headers)


class Map(Step):
    """A function from a value to another; `optional`: to none, when it gives None."""

    __slots__ = ("_call", "_cursor", "_function", "_next", "_optional")

    def __init__(
        self, function: Function, cursor: Cursor, forward: Forward, optional: bool
    ) -> None:
        self._call = function.call
        self._function = function
        self._cursor = cursor
        self._next = step_of(forward)
        self._optional = optional

    def give(self, key: Any, value: Any, stamp: int, headers: Headers) -> None:
        result: Any = None
        try:
            result = self._call(value)
        except Exception as error:
            self._cursor.fail(self._function, key, error)
        if result is not None or not self._optional:
            self._next.give(key, result, stamp, headers)


class By(Step):
    """The same events under a key that a function makes of the value."""

    __slots__ = ("_call", "_cursor", "_function", "_next")

    def __init__(self, function: Function, cursor: Cursor, forward: Forward) -> None:
        self._call = function.call
        self._function = function
        self._cursor = cursor
        self._next = step_of(forward)

    def give(self, key: Any, value: Any, stamp: int, headers: Headers) -> None:
        new: Any = None
        try:
            new = self._call(value)
        except Exception as error:
            self._cursor.fail(self._function, key, error)
        self._next.give(new, value, stamp, headers)


class Lookup(Step):
    """A function of a value and of what a table has for the event's key."""

    __slots__ = (
        "_at_hand",
        "_call",
        "_careful",
        "_cursor",
        "_function",
        "_inner",
        "_next",
        "_row",
        "_write",
    )

    def __init__(
        self,
        function: Function,
        cursor: Cursor,
        forward: Forward,
        at_hand: dict[bytes, Any],
        row: Callable[[bytes], Any],
        write_key: Callable[[Any], bytes | None],
        careful: Forward,
        inner: bool,
    ) -> None:
        """`at_hand` has the rows that are in memory by their encoded keys, and `row` looks up
        what is not there; `careful` takes the event when its key cannot be encoded."""
        self._call = function.call
        self._function = function
        self._cursor = cursor
        self._next = step_of(forward)
        self._at_hand = at_hand
        self._row = row
        self._write = write_key
        self._careful = careful
        self._inner = inner

    def give(self, key: Any, value: Any, stamp: int, headers: Headers) -> None:
        data: Any = None
        try:
            data = self._write(key)
        except Exception:
            data = None
        if data is None:
            self._careful(key, value, stamp, headers)
            return
        row = self._at_hand.get(data)
        if row is None:
            row = self._row(data)
            if row is None and self._inner:
                return
        result: Any = None
        try:
            result = self._call(value, row)
        except Exception as error:
            self._cursor.fail(self._function, key, error)
        if result is not None:
            self._next.give(key, result, stamp, headers)


class Writer:
    """Encodes values of one type: the most usual ones without the serde's care.

    That looks at the values, and not at what is in them: the items of a list, the fields of a
    Struct. The first 100 of a task are read back to know, and then each thousandth.
    """

    __slots__ = ("_careful", "_decode", "_dump", "_first", "_left", "_text", "_type")

    def __init__(self, serde: Serde) -> None:
        quick: Any = serde.quick or (None, None)
        self._type, self._dump = quick
        self._text = self._type in (str, bytes)  # no JSON, where a NaN becomes a null
        self._careful = serde.encode
        self._decode = serde.decode
        self._first = _FIRST
        # How many are written before one is looked at; of plain types none is.
        self._left = _NEVER if serde.type in _PLAIN else 0

    def write(self, value: Any) -> bytes | None:
        """Raises SerdeError."""
        if self._left == 0:
            return self._looked_at(value)
        self._left -= 1
        data: Any = None
        if type(value) is self._type:
            try:
                data = self._dump(value)
            except Exception:
                data = None
            if data is not None and (self._text or not has_null(data)):
                return data  # type: ignore[no-any-return]
        return self._careful(value)

    def _looked_at(self, value: Any) -> bytes | None:
        data: bytes | None = self._careful(value)
        if data is not None:
            self._decode(data)
        self._first -= 1
        if self._first <= 0:
            self._left = _APART - 1
        return data


class Write(Step):
    """Encodes events and writes them to a topic."""

    __slots__ = ("_cursor", "_key", "_outlet", "_value")

    def __init__(self, outlet: Outlet, key: Serde, value: Serde, cursor: Cursor) -> None:
        self._outlet = outlet
        self._key = Writer(key)
        self._value = Writer(value)
        self._cursor = cursor

    def give(self, key: Any, value: Any, stamp: int, headers: Headers) -> None:
        name: Any = None
        data: Any = None
        try:
            name = self._key.write(key)
            data = self._value.write(value)
        except SerdeError as error:
            # A key without a name is what failed: it is written before the value.
            what = "record" if key is None or name is not None else "key of a record"
            raise self._cursor.unwritable(f"{what} for {self._outlet.topic}", error) from error
        self._outlet.add(name, data, stamp, headers)


class HandOver(Write):
    """Hands events to another sub-topology.

    An event that is behind the time of its partition, minus `delay`, takes that along; where they
    are `drawn` of, each its root.
    """

    __slots__ = ("_count", "_delay", "_drawn", "_last")

    def __init__(
        self,
        outlet: Outlet,
        key: Serde,
        value: Serde,
        cursor: Cursor,
        delay: int,
        drawn: bool,
    ) -> None:
        super().__init__(outlet, key, value, cursor)
        self._delay = delay
        self._drawn = drawn
        self._last: Any = None  # what the last event was made of
        self._count = 0

    def origin(self) -> bytes:
        """The place of the event at hand among those of its time; empty: nobody asks for it."""
        return b""

    def give(self, key: Any, value: Any, stamp: int, headers: Headers) -> None:
        frontier = self._cursor.frontier
        if frontier is not None and stamp < frontier - self._delay:
            headers = (*headers, (FRONTIER, b"%d" % (frontier - self._delay)))
        elif headers and headers[-1][0] in _TOLD:
            # From a topic that copies another app's inside: it must not be taken for our word.
            headers = (*headers, (FRONTIER, None))
        origin = self.origin()
        if origin:
            headers = (*headers, (ORIGIN, origin))
        if self._drawn:
            headers = (*headers, (ROOT, self._root()))
        Write.give(self, key, value, stamp, headers)

    def _root(self) -> bytes:
        """That of the event at hand: which one it is of those that come here of the same."""
        cursor = self._cursor
        place = cursor.root or cursor.place
        self._count = self._count + 1 if place == self._last else 0
        self._last = place
        if cursor.root:
            return nth(cursor.root, self._count)
        return nth(cursor.coordinates.encode(), cursor.numbered(self._count))


class HandOverFrom(HandOver):
    """The same with the place of each event.

    Of one that is `read` here that is where; of one that was `handed` over itself, its own, and
    then where, as others may have the same; of two that have `met`, and of what was `waited` for,
    that and then the task; of others the task, which gives them in their order.
    """

    __slots__ = ("_number", "_of")

    def __init__(
        self,
        outlet: Outlet,
        key: Serde,
        value: Serde,
        cursor: Cursor,
        delay: int,
        drawn: bool,
        number: int,
        of: Place,
    ) -> None:
        super().__init__(outlet, key, value, cursor, delay, drawn)
        self._number = _PARTITION.pack(number)
        self._of = of

    def origin(self) -> bytes:
        if self._of in ("read", "handed"):
            at = self._number + _OFFSET.pack(self._cursor.offset)
            return at if self._of == "read" else self._cursor.origin + at
        return self._number if self._of == "made" else self._cursor.origin + self._number
