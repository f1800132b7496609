"""The events of one of two streams that are joined, kept as long as others may meet them.

    "k" length of key, key, ordered(time)  → [event ...], of that key and time, as they came
    "t" ordered(until) key                 → 0: the key has events that are kept until then

What is kept until a time goes when no event of that time is in time any more: when the watermark is
1 ms and the grace past it.
"""

from collections.abc import Callable, Iterator
from typing import Any

from streamkit.dsl.nodes.node import OutputSpec
from streamkit.engine.node_time import NodeTime
from streamkit.engine.operators.window_rows import BY_TIME, moments, ordered, time_of
from streamkit.engine.site import Site
from streamkit.errors import SerdeError
from streamkit.records import Headers
from streamkit.serde import Serde


class Side:
    """One of the two; `name` is its store's. See the module."""

    def __init__(
        self, name: str, late: OutputSpec, site: Site, time: NodeTime, grace: int, keep: int
    ) -> None:
        """Events are kept until `keep` ms after their time."""
        self.keep = keep
        self.grain = 1
        """So many ms of `until` have one row; what is kept is kept to the end of them."""
        self.store = site.store(name)
        self._name = name
        self._late = late
        self._site = site
        self._cursor = site.cursor
        self._time = time
        self._grace = grace

    def coarse(self) -> None:
        """Forget events not one by one, but those of an eighth of their time together."""
        self.grain = self.keep // 8 + 1

    # Events as they come.

    def entrance(self, key: Serde) -> Callable[[Any, Any, int, Headers], bytes | None]:
        """To be called with each event: its encoded key, or None when it was late, and dealt with.

        Raises SerdeError, and DataError for an event without a key or a time.
        """
        write_key, encode, cursor, name = key.write, key.encode, self._cursor, self._name
        time, too_late, grace = self._time, self._time.is_late, self._grace
        late = self._site.late_events(name, self._late, key)

        def careful(key: Any, stamp: int) -> bytes:
            if stamp < 0:
                raise cursor.timeless(f"the join of {name}")
            try:
                data = encode(key)
            except SerdeError as error:
                raise cursor.unwritable(f"key for {name}", error) from error
            if data is None:
                raise cursor.keyless(f"the join of {name}")
            return data

        def enter(key: Any, value: Any, stamp: int, headers: Headers) -> bytes | None:
            try:
                data = write_key(key)
            except Exception:
                data = None
            if data is None or stamp < 0:
                data = careful(key, stamp)
            if too_late(stamp + 1 + grace):
                passed = time.passed(cursor.frontier)
                late.give(stamp, stamp + 1, passed, key, value, stamp, headers)
                return None
            return data

        return enter

    def keeper(self) -> Callable[[bytes, int, Any], None]:
        """To be called with the encoded key and the time of an event, and what to keep of it."""
        get, put, keep, grain = self.store.get, self.store.put, self.keep, self.grain
        wake, wait = self._time.wake, 1 + self._grace

        def add(data: bytes, stamp: int, event: Any) -> None:
            row = moments(data) + ordered(stamp)
            events = get(row)
            if events is not None:
                events.append(event)
                put(row, events, stamp)
                return
            put(row, [event], stamp)
            until = stamp + keep
            if grain > 1:
                until += grain - 1 - until % grain
            row = BY_TIME + ordered(until) + data
            if grain == 1 or get(row) is None:
                put(row, 0, stamp)
                wake(until + wait)

        return add

    # Time.

    @property
    def first(self) -> int | None:
        """Until when something is kept, and nothing less long."""
        found = next(self.store.scan(BY_TIME), None)
        return None if found is None else time_of(found[0][1:9])

    @property
    def last(self) -> int | None:
        """Until when something is kept, and nothing longer."""
        last = None
        for row, _ in self.store.scan(BY_TIME):
            last = row
        return None if last is None else time_of(last[1:9])

    def over(self, until: int) -> list[tuple[int, bytes]]:
        """What was kept until then and before, in that order, and the keys."""
        rows = self.store.scan(BY_TIME, BY_TIME + ordered(until + 1))
        return [(time_of(row[1:9]), row[9:]) for row, _ in rows]

    def events(self, data: bytes, low: int, high: int) -> Iterator[tuple[int, list[Any]]]:
        """The events of a key in [low, high), by time."""
        rows = moments(data)
        for row, events in self.store.scan(rows + ordered(low), rows + ordered(high)):
            yield time_of(row[-8:]), events

    def forget(self, until: int, data: bytes) -> None:
        """A key's events that are kept until then."""
        rows, store = moments(data), self.store
        last = until - self.keep
        for row, _ in store.scan(rows + ordered(last - self.grain + 1), rows + ordered(last + 1)):
            store.delete(row, time_of(row[-8:]))
        store.delete(BY_TIME + ordered(until) + data, last)
