"""What a task writes, per topic, until it is drained."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

from streamkit.dsl.graph import check_output
from streamkit.dsl.times import LATEST_TIME
from streamkit.engine.cursor import Cursor
from streamkit.engine.headers import FRONTIER, WATERMARK
from streamkit.engine.limits import Limits
from streamkit.engine.rows import Rows
from streamkit.errors import InvalidRecord, InvalidTopic, SerdeError
from streamkit.records import NO_TIMESTAMP, Headers
from streamkit.serde import Serde, Untyped, serde_for

Forward: TypeAlias = Callable[[Any, Any, int, Headers], None]
"""Gives an event to the next step: key, value, event time in ms, headers."""

_NO_LIMIT = 1 << 62


class Outlet:
    """The rows of one topic. Those of the record being processed can be taken back."""

    __slots__ = (
        "_cursor",
        "_keyed",
        "_large",
        "_limits",
        "_mark",
        "_offset",
        "headers",
        "keys",
        "stamps",
        "topic",
        "values",
    )

    def __init__(self, topic: str, cursor: Cursor, limits: Limits | None = None) -> None:
        """`limits` are the topic's; None: whoever appends the rows will see."""
        self.topic = topic
        self._cursor = cursor
        self._limits = limits
        self._keyed = limits is not None and limits.needs_key
        # Half of what a batch may have leaves room for all but absurd keys and headers.
        self._large = _NO_LIMIT if limits is None else limits.max_bytes // 2
        self.keys: list[bytes | None] = []
        self.values: list[bytes | None] = []
        self.stamps: list[int] = []
        self.headers: list[Headers] = []
        self._offset = -2
        self._mark = 0

    def begin(self) -> None:
        """Another input comes, whose offsets mean other records."""
        self._offset = -2

    def add(self, key: bytes | None, value: bytes | None, stamp: int, headers: Headers) -> None:
        """Raises RecordTooLarge or InvalidRecord when the topic would not take the record."""
        if (value is not None and len(value) > self._large) or (key is None and self._keyed):
            assert self._limits is not None
            error = self._limits.check(key, value, stamp, headers)
            if error is not None:
                raise self._cursor.refused(self.topic, error)
        if self._cursor.offset != self._offset:
            self._offset = self._cursor.offset
            self._mark = len(self.values)
        self.keys.append(key)
        self.values.append(value)
        self.stamps.append(stamp)
        self.headers.append(headers)

    def take_back(self) -> None:
        """Forget the rows of the present record, which failed."""
        if self._offset == self._cursor.offset:
            for column in (self.keys, self.values, self.stamps, self.headers):
                del column[self._mark :]

    def drain(self) -> Rows | None:
        """The rows so far, if any; then there are none."""
        if not self.values:
            return None
        headers = self.headers if any(self.headers) else None
        rows = Rows(self.keys, self.values, self.stamps, headers)
        self.keys, self.values, self.stamps, self.headers = [], [], [], []
        self._offset = -2
        return rows


class Outlets:
    """All outlets of a task.

    `types` are the key and value types of the topics that have any, `limits` what topics take; to
    topics in `internal` functions may not send.
    """

    def __init__(
        self,
        types: Mapping[str, tuple[Serde, Serde]],
        internal: Collection[str],
        cursor: Cursor,
        limits: Mapping[str, Limits],
    ) -> None:
        self._types = types
        self._limits = limits
        self._internal = internal
        self._cursor = cursor
        self._outlets: dict[str, Outlet] = {}

    def of(self, topic: str) -> Outlet:
        """The topic's, made when it is asked for first."""
        outlet = self._outlets.get(topic)
        if outlet is None:
            outlet = self._outlets[topic] = Outlet(topic, self._cursor, self._limits.get(topic))
        return outlet

    def begin(self) -> None:
        """Another input comes."""
        for outlet in self._outlets.values():
            outlet.begin()

    def take_back(self) -> None:
        """Forget what was made of the present record."""
        for outlet in self._outlets.values():
            outlet.take_back()

    def send(self, topic: str, key: Any, value: Any, stamp: int) -> None:
        """Write a record to any topic. Raises InvalidTopic, InvalidRecord, RecordTooLarge."""
        if topic not in self._outlets:
            check_output(topic)
        if topic in self._internal:
            raise InvalidTopic(f"topic {topic!r}: the app keeps there what it needs itself")
        if type(stamp) is not int or not NO_TIMESTAMP <= stamp <= LATEST_TIME:
            raise InvalidRecord(
                f"timestamp {stamp!r} is no time in milliseconds since 1970-01-01 UTC"
            )
        key_serde, value_serde = self._types.get(topic, (_UNTYPED, _UNTYPED))
        writer(self.of(topic), key_serde, value_serde, self._cursor)(key, value, stamp, ())

    def drain(self) -> dict[str, Rows]:
        """The rows so far, per topic that has any."""
        drained = ((topic, outlet.drain()) for topic, outlet in self._outlets.items())
        return {topic: rows for topic, rows in drained if rows is not None}


_UNTYPED = serde_for(Untyped)
_TOLD = {FRONTIER, WATERMARK}
"""The headers that a reader of a repartition topic looks at, when they are the last."""


def writer(outlet: Outlet, key: Serde, value: Serde, cursor: Cursor) -> Forward:
    """A step that encodes events and writes them."""
    encode_key, encode_value, add = key.encode, value.encode, outlet.add
    topic = outlet.topic

    def write(key: Any, value: Any, stamp: int, headers: Headers) -> None:
        try:
            add(encode_key(key), encode_value(value), stamp, headers)
        except SerdeError as error:
            raise cursor.unwritable(f"record for {topic}", error) from error

    return write


def repartitioner(outlet: Outlet, key: Serde, value: Serde, cursor: Cursor, delay: int) -> Forward:
    """A step that hands events to another sub-topology.

    An event that is behind the time of its partition, minus `delay`, takes that along.
    """
    encode_key, encode_value, add = key.encode, value.encode, outlet.add
    topic = outlet.topic

    def hand_over(key: Any, value: Any, stamp: int, headers: Headers) -> None:
        frontier = cursor.frontier
        if frontier is not None and stamp < frontier - delay:
            headers = (*headers, (FRONTIER, b"%d" % (frontier - delay)))
        elif headers and headers[-1][0] in _TOLD:
            # From a topic that copies another app's inside: it must not be taken for our word.
            headers = (*headers, (FRONTIER, None))
        try:
            add(encode_key(key), encode_value(value), stamp, headers)
        except SerdeError as error:
            raise cursor.unwritable(f"record for {topic}", error) from error

    return hand_over
