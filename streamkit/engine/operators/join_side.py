"""The events of one of two streams that are joined, kept as long as others may meet them.

    "k" length of key, key, ordered(time)  → [event ...], of that key and time, as they came or
                                           by their places
    "t" ordered(until) key, ordered(time)  → {key: [time ...] ...}, of what is kept until then

What is kept until a time goes when no event of that time is in time any more: when the watermark is
1 ms and the grace past it. There may be several rows for one time, named after the first that is in
them, so that none becomes long. Keys are in them as text, of as many letters as they have bytes.
"""

from bisect import insort
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any

from streamkit.dsl.nodes.node import OutputSpec
from streamkit.engine.hot.moment import NodeTime
from streamkit.engine.operators.window_rows import BY_KEY, BY_TIME, moments, ordered, time_of
from streamkit.engine.site import Site
from streamkit.errors import SerdeError
from streamkit.records import Headers
from streamkit.serde import Serde

_TOGETHER = 64
"""What one row has at most; it is written again whenever some is added."""
_LATEST = 64
"""Rows to which is added at once."""
_AT_ONCE = 256
"""Of what is over; whatever of these others do not let come is kept again."""
_place = itemgetter(0)


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
        self._latest: dict[int, list[Any]] = {}
        """Of some times, the row that takes what comes next: its name, what is in it, how much."""

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

    def keeper(self, *, placed: bool = False) -> Callable[[bytes, int, Any], None]:
        """To be called with the encoded key and the time of an event, and what to keep of it;
        `placed`: which begins with its place among those of its key and time."""
        get, put, keep, grain = self.store.get, self.store.put, self.keep, self.grain
        wake, wait, latest = self._time.wake, 1 + self._grace, self._latest

        def add(data: bytes, stamp: int, event: Any) -> None:
            row = moments(data) + ordered(stamp)
            events = get(row)
            if events is not None:
                if placed:
                    insort(events, event, key=_place)
                else:
                    events.append(event)
                put(row, events, stamp)
                return
            put(row, [event], stamp)
            until = stamp + keep
            if grain > 1:
                until += grain - 1 - until % grain
            known = latest.get(until)
            if known is None or known[2] == _TOGETHER:
                row = BY_TIME + ordered(until) + data + ordered(stamp)
                if len(latest) >= _LATEST:
                    latest.clear()
                known = latest[until] = [row, get(row) or {}, 0]
                wake(until + wait)
            row, times, count = known
            name = data.decode("latin-1")
            if name in times:
                times[name].append(stamp)
            else:
                times[name] = [stamp]
            known[2] = count + 1
            put(row, times, stamp)

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
        for row, _ in self.store.look_through(BY_TIME):
            last = row
        return None if last is None else time_of(last[1:9])

    def rows(self) -> Iterator[tuple[bytes, list[Any]]]:
        """All its events, by key and time."""
        return self.store.look_through(BY_KEY, BY_TIME)

    def soon(self, until: int) -> int:
        """A time until which only so many are kept as are dealt with at once; `until` at most."""
        count = 0
        for row, keys in self.store.scan(BY_TIME, BY_TIME + ordered(until + 1)):
            count += sum(map(len, keys.values()))
            if count >= _AT_ONCE:
                return time_of(row[1:9])
        return until

    def over(self, until: int) -> list[tuple[int, bytes, int]]:
        """What is kept until then and not longer: until when, of which keys and times.

        Told once: it is to be forgotten now.
        """
        self._latest.clear()
        over = []
        for row, keys in self.store.scan(BY_TIME, BY_TIME + ordered(until + 1)):
            at = time_of(row[1:9])
            for name, times in keys.items():
                data = name.encode("latin-1")
                over += [(at, data, stamp) for stamp in times]
            self.store.delete(row, at)
        return over

    def put_back(self, until: int, data: bytes, stamp: int) -> None:
        """It was told of as over, and is not forgotten yet."""
        row, name = BY_TIME + ordered(until) + data + ordered(stamp), data.decode("latin-1")
        times = self.store.get(row) or {}
        self.store.put(row, {**times, name: [*times.get(name, ()), stamp]}, stamp)

    def events(self, data: bytes, low: int, high: int) -> Iterator[tuple[int, list[Any]]]:
        """The events of a key in [low, high), by time."""
        rows = moments(data)
        for row, events in self.store.scan(rows + ordered(low), rows + ordered(high)):
            yield time_of(row[-8:]), events

    def forget(self, data: bytes, stamp: int) -> None:
        """A key's events of one time."""
        self.store.delete(moments(data) + ordered(stamp), stamp)
