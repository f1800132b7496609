"""Folds of the events of a key by a function that wants nothing but values."""

from collections.abc import Callable
from typing import Any

from streamkit.dsl.functions import Function
from streamkit.engine.cursor import Cursor
from streamkit.engine.hot.moment import NodeTime
from streamkit.engine.hot.steps import Forward, Step, step_of
from streamkit.engine.state.store import Store
from streamkit.records import Headers

Fetch = Callable[[bytes, int], list[Any]]
"""Gets the cell of a row out of the store: a list that begins with the number of events and the
state, and may be changed in place until the next commit, when it is no longer `fresh`."""


class Fold(Step):
    """What folds by a function have in common: the function, the store, and how keys are there."""

    __slots__ = ("_call", "_cursor", "_fresh", "_function", "_store", "_write")

    def __init__(
        self,
        function: Function,
        cursor: Cursor,
        store: Store,
        write_key: Callable[[Any], bytes | None],
    ) -> None:
        self._call = function.call
        self._function = function
        self._cursor = cursor
        self._store = store
        self._fresh = store.fresh
        self._write = write_key

    def _written(self, key: Any) -> Any:
        """A key as the store has it; None: it is no plain one."""
        try:
            return self._write(key)
        except Exception:
            return None

    def _fold(self, cell: list[Any], key: Any, value: Any) -> Any:
        try:
            cell[1] = self._call(cell[1], value)
        except Exception as error:
            self._cursor.fail(self._function, key, error)
        cell[0] += 1
        return cell[1]


class Running(Fold):
    """Folds all events of a key, and gives the value after each."""

    __slots__ = ("_careful", "_fetch", "_next", "_result")

    def __init__(
        self,
        function: Function,
        cursor: Cursor,
        forward: Forward,
        store: Store,
        fetch: Fetch,
        write_key: Callable[[Any], bytes | None],
        careful: Callable[[Any], bytes],
        result: Callable[[Any], Any] | None,
    ) -> None:
        """`careful` encodes the keys that `write_key` does not."""
        super().__init__(function, cursor, store, write_key)
        self._next = step_of(forward)
        self._fetch = fetch
        self._careful = careful
        self._result = result

    def give(self, key: Any, value: Any, stamp: int, headers: Headers) -> None:
        data = self._written(key)
        if data is None:
            data = self._careful(key)
        self._store.touched = self._cursor.offset
        cell = self._fresh.get(data)
        if cell is None:
            cell = self._fetch(data, stamp)
        else:
            self._store.changed[data] = stamp
        value = self._fold(cell, key, value)
        if self._result is not None:
            value = self._result(value)
        self._next.give(key, value, stamp, ())


class Tumbling(Fold):
    """Folds each event into the one window of its key that it falls into, and gives nothing.

    `careful` does the same for every event that is no plain one, and for the first one of a window.
    """

    __slots__ = ("_careful", "_fetch", "_opened", "_prefix", "_size", "_start")

    def __init__(
        self,
        function: Function,
        cursor: Cursor,
        store: Store,
        fetch: Fetch,
        write_key: Callable[[Any], bytes | None],
        careful: Forward,
        opened: dict[int, bytes],
        size: int,
    ) -> None:
        """`opened`: windows that are open, by their start (ms), and how their rows begin."""
        super().__init__(function, cursor, store, write_key)
        self._fetch = fetch
        self._careful = careful
        self._opened = opened
        self._size = size
        self.forget()

    def forget(self) -> None:
        """Time has moved: a window may not be open any more."""
        self._start = -1
        self._prefix = b""

    def give(self, key: Any, value: Any, stamp: int, headers: Headers) -> None:
        data = self._written(key)
        at = stamp
        if data is None or at < 0 or self._cursor.frontier is not None:
            self._careful(key, value, stamp, headers)
            return
        start = at - at % self._size
        if start != self._start:
            prefix = self._opened.get(start)
            if prefix is None:
                self._careful(key, value, stamp, headers)
                return
            self._start = start
            self._prefix = prefix
        row = self._prefix + data
        self._store.touched = self._cursor.offset
        cell = self._fresh.get(row)
        if cell is None:
            cell = self._fetch(row, stamp)
        self._fold(cell, key, value)


class Continuing(Fold):
    """Folds each event that goes on with the one session that its key has; gives nothing.

    `careful` does the same for every other event. A session is as in `operators/window_sessions`.
    """

    __slots__ = ("_careful", "_gap", "_grace", "_time")

    def __init__(
        self,
        function: Function,
        cursor: Cursor,
        time: NodeTime,
        store: Store,
        write_key: Callable[[Any], bytes | None],
        careful: Forward,
        gap: int,
        grace: int,
    ) -> None:
        """`gap` and `grace` in ms."""
        super().__init__(function, cursor, store, write_key)
        self._time = time
        self._careful = careful
        self._gap = gap
        self._grace = grace

    def give(self, key: Any, value: Any, stamp: int, headers: Headers) -> None:
        data = self._written(key)
        at = stamp
        sessions = None if data is None else self._fresh.get(data)
        if sessions is None or len(sessions) != 1 or at < 0:
            self._careful(key, value, stamp, headers)
            return
        one = sessions[0]
        first, last = one[0], one[1]
        if at < first or at >= last + self._gap or self._time.is_late(at + 1 + self._grace):
            self._careful(key, value, stamp, headers)
            return
        self._store.touched = self._cursor.offset
        state: Any = None
        try:
            state = self._call(one[3], value)
        except Exception as error:
            self._cursor.fail(self._function, key, error)
        latest = stamp if at > last else one[1]
        sessions[0] = (one[0], latest, one[2] + 1, state, one[4], one[5])
