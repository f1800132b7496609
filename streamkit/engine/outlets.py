"""What a task writes, per topic, until it is drained."""

from collections.abc import Collection, Mapping
from typing import Any

from streamkit.dsl.graph import check_output
from streamkit.dsl.times import LATEST_TIME
from streamkit.engine.cursor import Cursor
from streamkit.engine.hot.outlet import Outlet
from streamkit.engine.hot.steps import Write
from streamkit.engine.limits import Limits
from streamkit.engine.rows import Rows
from streamkit.errors import InvalidRecord, InvalidTopic, SerdeError
from streamkit.records import NO_TIMESTAMP, Headers
from streamkit.serde import Serde, Untyped, serde_for


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
        outlet, key_serde, value_serde = self._destination(topic, stamp)
        Write(outlet, key_serde, value_serde, self._cursor).give(key, value, stamp, ())

    def encoded(
        self, topic: str, key: Any, value: Any, stamp: int
    ) -> tuple[Outlet, bytes | None, bytes | None]:
        """The same, to be written later: where, and key and value."""
        outlet, key_serde, value_serde = self._destination(topic, stamp)
        try:
            return outlet, key_serde.encode(key), value_serde.encode(value)
        except SerdeError as error:
            raise self._cursor.unwritable(f"record for {topic}", error) from error

    def refusal(
        self, topic: str, key: bytes | None, value: bytes | None, stamp: int, headers: Headers
    ) -> Exception | None:
        """Why a topic would not take a record; None: it would, as far as is known."""
        limits = self._limits.get(topic)
        if limits is None:
            return None
        size = len(key or b"") + len(value or b"")
        size += sum(len(name) + len(data or b"") for name, data in headers)
        if size < limits.max_bytes // 2 and not (limits.needs_key and key is None):
            return None
        error = limits.check(key, value, stamp, headers)
        return None if error is None else self._cursor.refused(topic, error)

    def _destination(self, topic: str, stamp: int) -> tuple[Outlet, Serde, Serde]:
        if topic not in self._outlets:
            check_output(topic)
        if topic in self._internal:
            raise InvalidTopic(f"topic {topic!r}: the app keeps there what it needs itself")
        if type(stamp) is not int or not NO_TIMESTAMP <= stamp <= LATEST_TIME:
            raise InvalidRecord(
                f"timestamp {stamp!r} is no time in milliseconds since 1970-01-01 UTC"
            )
        return self.of(topic), *self._types.get(topic, (_UNTYPED, _UNTYPED))

    def drain(self) -> dict[str, Rows]:
        """The rows so far, per topic that has any."""
        drained = ((topic, outlet.drain()) for topic, outlet in self._outlets.items())
        return {topic: rows for topic, rows in drained if rows is not None}


_UNTYPED = serde_for(Untyped)
