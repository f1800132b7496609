"""What a function may keep per key: `State`, `ListState`, `MapState`.

    def f(order: Order, seen: State[int], recent: ListState[Order], paid: MapState[str, float])
    def g(click: Click, last: State[int] = State(ttl="1d"))

Each is named after the function and the parameter, and holds what belongs to the key of the event
that is being processed. Made by hand they hold what one key has: for unit tests of functions.
"""

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, overload

from streamkit.dsl.durations import Duration, milliseconds
from streamkit.errors import SerdeError, TopologyError
from streamkit.serde import Serde, serde_for

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")
_SHOWN = 80
"""Characters of a value in a message."""
D = TypeVar("D")


class Cells(Protocol):
    """Values by bytes. None is no value; `stamp` is the time of a change, in ms."""

    def get(self, key: bytes, /) -> Any: ...

    def put(self, key: bytes, value: Any, stamp: int, /) -> None: ...

    def delete(self, key: bytes, stamp: int, /) -> None: ...

    def scan(self, low: bytes, high: bytes | None, /) -> Iterator[tuple[bytes, Any]]:
        """Keys of [low, high) in order, with their values; there may be changes meanwhile."""
        ...


class Place:
    """The key and time of the event that is being processed."""

    __slots__ = ("key", "stamp")

    def __init__(self) -> None:
        self.key = b""
        self.stamp = 0


class _Kept:
    """Where the values are: by hand in a dictionary, in an app in a store of its task."""

    __slots__ = ("_cells", "_class", "_keys", "_name", "_place", "_values", "_writes", "ttl")

    if not TYPE_CHECKING:  # a type checker tells it in its own words

        def __new__(cls, *values: Any, **options: Any) -> Any:
            if values or options.keys() - {"ttl"}:
                raise TopologyError(_refused(cls.__name__, values, options))
            return super().__new__(cls)

    def __init__(self, *, ttl: Duration | None = None) -> None:
        """`ttl`: what was not written for so long, in event time, is forgotten."""
        self.ttl = None if ttl is None else milliseconds(ttl, "ttl")
        self._cells: Cells = _Loose()
        self._place = Place()
        self._keys: Serde = _LooseKeys()
        self._class: type | None = None
        """Of values that need no check; None: nobody knows."""
        self._writes = 0
        """Of entries of a MapState, for who goes through them meanwhile."""

    def bind(self, cells: Cells, place: Place, name: str, keys: Serde, values: Serde) -> None:
        """Work with what others provide. `keys`: of the entries of a MapState."""
        self._cells = cells
        self._place = place
        self._name = name
        self._keys = keys
        self._values = values
        self._class = None if values.quick is None else values.quick[0]

    def _put(self, row: bytes, value: Any, stamp: int) -> None:
        """Raises SerdeError here, where the function is at work, and not at a commit later."""
        if type(value) is not self._class and self._class is not None:
            value = self._as_restored(value)
        self._cells.put(row, value, stamp)

    def _as_restored(self, value: Any) -> Any:
        """A value of another class, such as a whole number in a State[float], as it would be found
        after a restart: what a function finds does not depend on whether there was one."""
        try:
            data = self._values.encode(value)
            return None if data is None else self._values.decode(data)
        except SerdeError as error:
            raise SerdeError(f"state {self._name!r}: {error}: {_shown(value)}") from error


def _refused(kind: str, values: tuple[Any, ...], options: Mapping[str, Any]) -> str:
    given = [*map(repr, values), *(f"{name}=" for name in options if name != "ttl")]
    said = f"{kind}({', '.join(given)}): it takes ttl=, and nothing else"
    if values and kind == "State":
        said += f"; what a key begins with is said where it is read: .get({values[0]!r})"
    if "name" in options:
        said += "; it is named after the function and the parameter"
    return said


class State(_Kept, Generic[T]):
    """One value per key, kept over restarts. The key is that of the event being processed.

    What `get` returned and the function changed in place is kept only after `set`. The value is
    written whole when it changes: for what grows there are ListState and MapState.
    """

    __slots__ = ()

    @overload
    def get(self) -> T | None: ...
    @overload
    def get(self, default: T) -> T: ...
    def get(self, default: T | None = None) -> T | None:
        """The key's value, or `default` when it has none."""
        value = self._cells.get(self._place.key)
        return default if value is None else value

    def set(self, value: T) -> None:
        """Keep a value. None is `delete`."""
        self._put(self._place.key, value, self._place.stamp)

    def delete(self) -> None:
        """Forget the key."""
        self._cells.delete(self._place.key, self._place.stamp)


class Span:
    """From where to where a list's items are numbered, and the latest time one was written at."""

    __slots__ = ("end", "latest", "start")

    def __init__(self, start: int, end: int, latest: int) -> None:
        self.start = start
        self.end = end
        self.latest = latest


class ListState(_Kept, Generic[T]):
    """A list per key, kept over restarts; each item is written by itself.

    So appending costs the same however long it is, as does taking from either end. Items are not
    None; one that was changed in place is kept only after `items[n] = item`. With a `ttl` an item
    goes when that much time has passed since it and all before it were appended.
    """

    __slots__ = ()

    def append(self, item: T) -> None:
        """Add an item at the end. Raises TypeError for None."""
        if item is None:
            raise TypeError("a ListState keeps no None")
        prefix, span = self._span()
        stamp = max(span.latest, self._place.stamp)
        self._put(prefix + _number(span.end), item, stamp)
        span.latest = stamp
        span.end += 1
        self._cells.put(prefix, span, stamp)

    def extend(self, items: Iterable[T]) -> None:
        """Add items at the end, one by one. Raises TypeError at one that is None."""
        for item in items:
            self.append(item)

    def pop(self) -> T:
        """Take the last item. Raises IndexError when there is none."""
        prefix, span = self._span()
        return self._take(prefix, span, span.end - 1)

    def popleft(self) -> T:
        """Take the first item. Raises IndexError when there is none."""
        prefix, span = self._span()
        return self._take(prefix, span, span.start)

    def clear(self) -> None:
        """Forget all items. It costs something for each."""
        prefix, span = self._span()
        for number in range(span.start, span.end):
            self._cells.delete(prefix + _number(number), self._place.stamp)
        self._cells.delete(prefix, self._place.stamp)

    def __len__(self) -> int:
        _, span = self._span()
        return span.end - span.start

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> list[T]: ...
    def __getitem__(self, at: int | slice) -> T | list[T]:
        """Raises IndexError."""
        prefix, span = self._span()
        numbers = range(span.start, span.end)
        if isinstance(at, slice):
            return [self._cells.get(prefix + _number(number)) for number in numbers[at]]
        item: T = self._cells.get(prefix + _number(numbers[at]))
        return item

    def __setitem__(self, at: int, item: T) -> None:
        """Raises IndexError."""
        if item is None:
            raise TypeError("a ListState keeps no None")
        prefix, span = self._span()
        # With a ttl it keeps its time: the first items have to be the first to go.
        stamp = self._place.stamp if self.ttl is None else 0
        self._put(prefix + _number(range(span.start, span.end)[at]), item, stamp)

    def __iter__(self) -> Iterator[T]:
        """Items in order; appended ones are seen as well."""
        prefix, span = self._span()
        number = span.start
        while number < span.end:
            item: T | None = self._cells.get(prefix + _number(number))
            if item is not None:
                yield item
            number += 1

    def _span(self) -> tuple[bytes, Span]:
        prefix = _prefix(self._place.key)
        span: Span | None = self._cells.get(prefix)
        if span is None:
            return prefix, Span(0, 0, 0)
        if self.ttl is not None:
            while span.start < span.end and self._cells.get(prefix + _number(span.start)) is None:
                span.start += 1
        return prefix, span

    def _take(self, prefix: bytes, span: Span, number: int) -> T:
        if span.start == span.end:
            raise IndexError("pop from an empty ListState")
        row = prefix + _number(number)
        item: T = self._cells.get(row)
        self._cells.delete(row, self._place.stamp)
        if number == span.start:
            span.start += 1
        else:
            span.end -= 1
        if span.start < span.end:
            self._cells.put(prefix, span, span.latest)
        else:
            self._cells.delete(prefix, self._place.stamp)
        return item


class MapState(_Kept, MutableMapping[K, V], Generic[K, V]):
    """A dictionary per key, kept over restarts; each entry is written by itself.

    Entries are in the order of their keys' bytes. None is no value: setting it deletes. A value
    that was changed in place is kept only after `entries[key] = value`. `len` counts. With a `ttl`
    an entry goes when it was not written for that long. It may be changed in a loop over it, which
    comes to all that is behind where it is.
    """

    __slots__ = ()

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, /, default: V | D) -> V | D: ...
    def get(self, key: K, /, default: Any = None) -> Any:
        value = self._cells.get(self._row(key))
        return default if value is None else value

    def __getitem__(self, key: K) -> V:
        value: V | None = self._cells.get(self._row(key))
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: K, value: V) -> None:
        self._writes += 1
        self._put(self._row(key), value, self._place.stamp)

    def __delitem__(self, key: K) -> None:
        row = self._row(key)
        if self._cells.get(row) is None:
            raise KeyError(key)
        self._cells.delete(row, self._place.stamp)

    def __contains__(self, key: object) -> bool:
        return self._cells.get(self._row(key)) is not None

    def __iter__(self) -> Iterator[K]:
        prefix = low = _prefix(self._place.key)
        more = True
        while more:
            more, writes = False, self._writes
            for row, _ in self._cells.scan(low, _after(prefix)):
                yield self._keys.decode(row[len(prefix) :])
                if self._writes != writes:
                    # A scan may know by now what comes next, and not of what is new in between.
                    low, more = row + b"\0", True
                    break

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def clear(self) -> None:
        """Forget all entries. It costs something for each."""
        prefix = _prefix(self._place.key)
        for row, _ in self._cells.scan(prefix, _after(prefix)):
            self._cells.delete(row, self._place.stamp)

    def _row(self, key: object) -> bytes:
        try:
            data = self._keys.encode(key)
        except SerdeError as error:
            raise SerdeError(f"state {self._name!r}, key {_shown(key)}: {error}") from error
        if data is None:
            raise TypeError("None is no key of a MapState")
        return _prefix(self._place.key) + data


class _LooseKeys:
    """The serde of a MapState's keys that was made by hand, where nothing tells what they are."""

    nullable = False
    quick = None

    def __init__(self) -> None:
        self.type: Any = object
        self.read = self.decode
        self.write = self.encode
        self._known: dict[bytes, Any] = {}

    def encode(self, value: Any) -> bytes | None:
        if value is None:
            return None
        # Bytes that no text has come first, so that 1 is not "1".
        data = value.encode() if type(value) is str else b"\xff" + repr(value).encode()
        self._known[data] = value
        return data

    def decode(self, data: bytes | None) -> Any:
        return None if data is None else self._known[data]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


@dataclass(frozen=True, slots=True)
class Kept:
    """A parameter of a function that is given a state. `type` is its values', `key` its entries'.

    `ttl` is in ms.
    """

    parameter: str
    kind: type[State[Any]] | type[ListState[Any]] | type[MapState[Any, Any]]
    type: Any
    key: Any = str
    ttl: int | None = None

    @property
    def rows(self) -> Serde:
        """The serde of what is in the store."""
        values = serde_for(self.type)
        return ListRows(values) if self.kind is ListState else values

    def bound(self, cells: Cells, place: Place) -> Any:
        """What the function is given."""
        state = self.kind()
        state.ttl = self.ttl
        state.bind(cells, place, self.parameter, serde_for(self.key), serde_for(self.type))
        return state


class ListRows:
    """The serde of a ListState's store: of the items, and of the spans among them.

    A span is a zero byte and JSON. An item that begins with a zero or one itself gets a one before.
    """

    nullable = False
    quick = None

    def __init__(self, items: Serde) -> None:
        self._items = items
        self.type: Any = list[items.type]  # type: ignore[name-defined]
        self.read = self.decode
        self.write = self.encode

    def encode(self, value: Any) -> bytes | None:
        if type(value) is Span:
            return b"\0[%d,%d,%d]" % (value.start, value.end, value.latest)
        data = self._items.encode(value)
        return b"\1" + data if data is not None and data[:1] in (b"\0", b"\1") else data

    def decode(self, data: bytes | None) -> Any:
        if data is not None and data[:1] == b"\0":
            start, end, latest = data[2:-1].split(b",")
            return Span(int(start), int(end), int(latest))
        return self._items.decode(data[1:] if data is not None and data[:1] == b"\1" else data)


class _Loose:
    """Cells in a dictionary, for functions that are called without an app."""

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: dict[bytes, Any] = {}

    def get(self, key: bytes) -> Any:
        return self._rows.get(key)

    def put(self, key: bytes, value: Any, stamp: int) -> None:
        if value is None:
            self._rows.pop(key, None)
        else:
            self._rows[key] = value

    def delete(self, key: bytes, stamp: int) -> None:
        self._rows.pop(key, None)

    def scan(self, low: bytes, high: bytes | None) -> Iterator[tuple[bytes, Any]]:
        for key in sorted(key for key in self._rows if low <= key and (not high or key < high)):
            if key in self._rows:
                yield key, self._rows[key]


def _prefix(key: bytes) -> bytes:
    """Begins the rows of a key, and those of no other."""
    return len(key).to_bytes(4, "big") + key


def _after(prefix: bytes) -> bytes:
    """The first bytes that are after everything that begins with a prefix."""
    whole = prefix.rstrip(b"\xff")
    # The length comes first, and is not so large that nothing would be left.
    return whole[:-1] + bytes([whole[-1] + 1])


def _number(number: int) -> bytes:
    return number.to_bytes(8, "big")
