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
from streamkit.errors import InvalidRecord, InvalidTopic
from streamkit.records import NO_TIMESTAMP
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
        if topic not in self._outlets:
            check_output(topic)
        if topic in self._internal:
            raise InvalidTopic(f"topic {topic!r}: the app keeps there what it needs itself")
        if type(stamp) is not int or not NO_TIMESTAMP <= stamp <= LATEST_TIME:
            raise InvalidRecord(
                f"timestamp {stamp!r} is no time in milliseconds since 1970-01-01 UTC"
            )
        key_serde, value_serde = self._types.get(topic, (_UNTYPED, _UNTYPED))
        Write(self.of(topic), key_serde, value_serde, self._cursor).give(key, value, stamp, ())

    def drain(self) -> dict[str, Rows]:
        """The rows so far, per topic that has any."""
        drained = ((topic, outlet.drain()) for topic, outlet in self._outlets.items())
        return {topic: rows for topic, rows in drained if rows is not None}


_UNTYPED = serde_for(Untyped)
