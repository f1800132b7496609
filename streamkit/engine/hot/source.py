"""From columns of bytes to events: the loops that all of them go through."""

from collections.abc import Callable
from typing import Any

import msgspec

from streamkit.dsl.nodes.sources import StreamSource
from streamkit.dsl.times import LATEST_TIME
from streamkit.engine.cursor import Cursor
from streamkit.engine.headers import FRONTIER, ORIGIN, ROOT, WATERMARK, Marker
from streamkit.engine.horizon import Horizon
from streamkit.engine.hot.moment import FOREVER, Clock, EventFrontier
from streamkit.engine.hot.steps import Forward, step_of
from streamkit.engine.watermarks import UpstreamFrontier
from streamkit.errors import SerdeError
from streamkit.records import Columns
from streamkit.serde import Serde


class Source:
    """Reads a topic from outside."""

    __slots__ = (
        "_alone",
        "_attribute",
        "_clock",
        "_cursor",
        "_frontier",
        "_get",
        "_horizon",
        "_keyless",
        "_moved",
        "_next",
        "_read_key",
        "_read_value",
        "_source",
    )

    def __init__(
        self,
        source: StreamSource,
        forward: Forward,
        frontier: EventFrontier,
        clock: Clock,
        cursor: Cursor,
        moved: Callable[[], None],
        alone: bool,
        horizon: Horizon | None = None,
    ) -> None:
        """`moved` is called when time may have moved the task's clock.

        `alone`: it is the task's only stream, so that the clock can be set here, and `moved` is
        needed only when a window closes.
        """
        self._source = source
        self._read_key, self._read_value = source.key.read, source.value.read
        self._keyless = source.key.nullable
        self._get = None if source.time is None else source.time.get
        self._attribute = None if source.time is None else source.time.attribute
        self._next = step_of(forward)
        self._frontier = frontier
        self._clock = clock
        self._cursor = cursor
        self._moved = moved
        self._alone = alone
        self._horizon = horizon

    def read(self, columns: Columns, start: int, stop: int) -> None:
        """Process the records `start` to `stop`."""
        cursor, clock, frontier, source = self._cursor, self._clock, self._frontier, self._source
        read_key, read_value, get, keyless = (
            self._read_key,
            self._read_value,
            self._get,
            self._keyless,
        )
        attribute, step, alone, horizon = self._attribute, self._next, self._alone, self._horizon
        late, reached = frontier.out_of_order, frontier.watermark
        limit = FOREVER if horizon is None else horizon.limit
        offsets, stamps, keys = columns.offsets, columns.timestamps, columns.keys
        values, whole = columns.values, columns.headers
        dense = type(offsets) is range
        first = offsets[0] if dense and offsets else 0
        for row in range(start, stop):
            if cursor.enough and cursor.offset >= 0:
                cursor.cut = True
                return
            offset = first + row if dense else offsets[row]
            cursor.offset = offset
            data, key_data, stamp = values[row], keys[row], stamps[row]
            headers = () if whole is None else whole[row]
            key: Any = None
            value: Any = None
            try:
                value = read_value(data)
                if key_data is not None or not keyless:
                    key = read_key(key_data)
            except Exception:
                value = _decoded(source.value, data, "value", cursor)
                key = _decoded(source.key, key_data, "key", cursor)
            if get is not None:
                try:
                    stamp = get(value) if attribute is None else getattr(value, attribute)
                    if type(stamp) is not int or not 0 <= stamp <= LATEST_TIME:
                        stamp = source.time.milliseconds(stamp)  # type: ignore[union-attr]
                except Exception as error:
                    raise cursor.undated(error) from error
            at = stamp
            if at < reached:
                # Behind its partition's time, so that it may be late for something.
                cursor.frontier = reached
                step.give(key, value, stamp, headers)
                cursor.frontier = None
                continue
            if at > limit and horizon is not None and horizon.refuses(offset):
                horizon.quarantine(columns, row, stamp)
                continue
            step.give(key, value, stamp, headers)
            if at > frontier.latest:
                frontier.latest = at
                reached = at - late
                # Behind the watermark it moves nothing: that is held back by the slowest.
                if reached > clock.watermark:
                    if not alone:
                        self._moved()
                    else:
                        clock.watermark = reached
                        if reached >= clock.due:
                            self._moved()


class HandedOver:
    """Reads what another sub-topology handed over: events, and markers of time."""

    __slots__ = (
        "_cursor",
        "_frontier",
        "_keyless",
        "_moved",
        "_next",
        "_read_key",
        "_read_value",
        "_source",
    )

    def __init__(
        self,
        source: StreamSource,
        forward: Forward,
        frontier: UpstreamFrontier,
        cursor: Cursor,
        moved: Callable[[], None],
    ) -> None:
        self._source = source
        self._read_key, self._read_value = source.key.read, source.value.read
        self._keyless = source.key.nullable
        self._next = step_of(forward)
        self._frontier = frontier
        self._cursor = cursor
        self._moved = moved

    def read(self, columns: Columns, start: int, stop: int) -> None:
        """Process the records `start` to `stop`."""
        cursor, step, source = self._cursor, self._next, self._source
        read_key, read_value, keyless = self._read_key, self._read_value, self._keyless
        offsets, stamps, keys = columns.offsets, columns.timestamps, columns.keys
        values, whole = columns.values, columns.headers
        dense = type(offsets) is range
        first = offsets[0] if dense and offsets else 0
        for row in range(start, stop):
            if cursor.enough and cursor.offset >= 0:
                cursor.cut = True
                return
            offset = first + row if dense else offsets[row]
            cursor.offset = offset
            data, key_data, stamp = values[row], keys[row], stamps[row]
            headers = () if whole is None else whole[row]
            key: Any = None
            value: Any = None
            reached: int | None = None
            origin = root = b""
            if headers:
                name, told = headers[-1]
                if name == ROOT and told is not None:
                    root, headers = told, headers[:-1]
                    name, told = headers[-1] if headers else ("", None)
                if name == ORIGIN and told is not None:
                    origin, headers = told, headers[:-1]
                    name, told = headers[-1] if headers else ("", None)
                if name == FRONTIER:
                    reached = None if told is None else int(told)
                    headers = headers[:-1]
                elif name == WATERMARK and told is not None:
                    try:
                        self._frontier.take(Marker.read(told))
                    except msgspec.DecodeError as error:
                        raise cursor.unreadable("watermark", error) from error
                    self._moved()
                    continue
            try:
                value = read_value(data)
                if key_data is not None or not keyless:
                    key = read_key(key_data)
            except Exception:
                value = _decoded(source.value, data, "repartitioned value", cursor)
                key = _decoded(source.key, key_data, "repartitioned key", cursor)
            cursor.frontier, cursor.origin, cursor.root = reached, origin, root
            step.give(key, value, stamp, headers)
            cursor.frontier, cursor.origin, cursor.root = None, b"", b""


def _decoded(serde: Serde, data: bytes | None, what: str, cursor: Cursor) -> Any:
    """With care: for null values, and to say what is wrong."""
    try:
        return serde.decode(data)
    except SerdeError as error:
        raise cursor.unreadable(what, error) from error
