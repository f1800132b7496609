"""The tight loops: from columns of bytes to events."""

from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

import msgspec

from streamkit.dsl.nodes.sources import StreamSource
from streamkit.engine.cursor import Cursor
from streamkit.engine.headers import FRONTIER, WATERMARK, Marker
from streamkit.engine.horizon import Horizon
from streamkit.engine.inputs import Reader
from streamkit.engine.outlets import Forward
from streamkit.engine.watermarks import FOREVER, Clock, EventFrontier, UpstreamFrontier
from streamkit.errors import DataError, SerdeError
from streamkit.records import Columns, Headers
from streamkit.serde import Serde


def source_reader(
    source: StreamSource,
    forward: Forward,
    frontier: EventFrontier,
    clock: Clock,
    cursor: Cursor,
    moved: Callable[[], None],
    alone: bool,
    horizon: Horizon | None = None,
) -> Reader:
    """Reads a topic from outside. `moved` is called when time may have moved the task's clock.

    `alone`: it is the task's only stream, so that the clock can be set here, at the price of a
    comparison, and `moved` is needed only when a window closes.
    """
    read_key, read_value, time = source.key.read, source.value.read, source.time
    keyless = source.key.nullable
    out_of_order = frontier.out_of_order

    def read(columns: Columns, start: int, stop: int) -> None:
        latest, reached = frontier.latest, frontier.watermark
        limit = FOREVER if horizon is None else horizon.limit
        for offset, stamp, key_data, data, headers in _rows(columns, start, stop):
            cursor.offset = offset
            try:
                value = read_value(data)
                key = None if key_data is None and keyless else read_key(key_data)
            except Exception:
                value = _decoded(source.value, data, "value", cursor)
                key = _decoded(source.key, key_data, "key", cursor)
            if time is not None:
                try:
                    stamp = time(value)
                except Exception as error:
                    raise _no_time(cursor, error) from error
            if stamp < reached:
                # Behind its partition's time, so that it may be late for something.
                cursor.frontier = reached
                forward(key, value, stamp, headers)
                cursor.frontier = None
                continue
            if stamp > limit and horizon is not None and horizon.refuses(offset):
                horizon.quarantine(columns, columns.offsets.index(offset, start), stamp)
                continue
            forward(key, value, stamp, headers)
            if stamp > latest:
                frontier.latest = latest = stamp
                reached = stamp - out_of_order
                if not alone:
                    moved()
                elif reached > clock.watermark:
                    clock.watermark = reached
                    if reached >= clock.due:
                        moved()

    return read


def repartition_reader(
    source: StreamSource,
    forward: Forward,
    frontier: UpstreamFrontier,
    cursor: Cursor,
    moved: Callable[[], None],
) -> Reader:
    """Reads what another sub-topology handed over: events, and markers of time."""
    read_key, read_value, keyless = source.key.read, source.value.read, source.key.nullable

    def read(columns: Columns, start: int, stop: int) -> None:
        for offset, stamp, key_data, data, headers in _rows(columns, start, stop):
            cursor.offset = offset
            reached = None
            if headers:
                name, told = headers[-1]
                if name == FRONTIER:
                    reached = None if told is None else int(told)
                    headers = headers[:-1]
                elif name == WATERMARK and told is not None:
                    try:
                        frontier.take(Marker.read(told))
                    except msgspec.DecodeError as error:
                        raise cursor.unreadable("watermark", error) from error
                    moved()
                    continue
            try:
                value = read_value(data)
                key = None if key_data is None and keyless else read_key(key_data)
            except Exception:
                value = _decoded(source.value, data, "repartitioned value", cursor)
                key = _decoded(source.key, key_data, "repartitioned key", cursor)
            cursor.frontier = reached
            forward(key, value, stamp, headers)
            cursor.frontier = None

    return read


def _decoded(serde: Serde, data: bytes | None, what: str, cursor: Cursor) -> Any:
    """With care: for null values, and to say what is wrong."""
    try:
        return serde.decode(data)
    except SerdeError as error:
        raise cursor.unreadable(what, error) from error


def _rows(
    columns: Columns, start: int, stop: int
) -> Iterator[tuple[int, int, bytes | None, bytes | None, Headers]]:
    whole = start == 0 and stop == len(columns)
    headers: Any = repeat(()) if columns.headers is None else columns.headers[start:stop]
    if whole:
        return zip(columns.offsets, columns.timestamps, columns.keys, columns.values, headers)  # noqa: B905
    return zip(  # noqa: B905 (repeat() has no end)
        columns.offsets[start:stop],
        columns.timestamps[start:stop],
        columns.keys[start:stop],
        columns.values[start:stop],
        headers,
    )


def _no_time(cursor: Cursor, error: Exception) -> Exception:
    told = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
    return DataError(f"{cursor.coordinates}: event time: {told}")
