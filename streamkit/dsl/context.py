"""What a function may ask for besides its event: its `Context`."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any
from uuid import UUID

from streamkit.records import Headers

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Context:
    """The event that is being processed, and what may be done beside returning a value.

    Everything here depends on the event alone, so that a replay does what was done live: the time
    is the event's, and random numbers are drawn from its coordinates. Each function of a task has
    one Context for all its events; use it while the function runs and do not keep it.
    """

    __slots__ = (
        "_draws",
        "_name",
        "_send",
        "headers",
        "key",
        "offset",
        "partition",
        "timestamp",
        "topic",
    )

    topic: str
    """With `partition` and `offset`: the record the task read, of which this event was made."""
    partition: int
    offset: int
    timestamp: int
    """Event time in ms since 1970-01-01 UTC."""
    key: Any
    headers: Headers

    def __init__(self, name: str, send: Callable[[str, Any, Any, int], None]) -> None:
        """Of the function `name`; `send` takes topic, key, value, timestamp."""
        self._name = name
        self._send = send
        self._draws = 0
        self.topic, self.partition, self.offset = "", -1, -1
        self.at("", -1, -1, None, -1, ())

    def at(
        self, topic: str, partition: int, offset: int, key: Any, timestamp: int, headers: Headers
    ) -> None:
        """Point to another event. The engine calls it before each function that has a Context."""
        if offset != self.offset or topic != self.topic:
            self._draws = 0
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.key = key
        self.timestamp = timestamp
        self.headers = headers

    def now(self) -> datetime:
        """The event's time. The wall clock would give another answer in a replay."""
        return _EPOCH + timedelta(milliseconds=self.timestamp)

    def random(self) -> float:
        """A number in [0, 1), the same whenever this event is processed."""
        return (int.from_bytes(self._draw()[:8]) >> 11) / (1 << 53)

    def uuid(self) -> UUID:
        """An id, the same whenever this event is processed."""
        return UUID(bytes=self._draw(), version=4)

    def send(
        self, topic: str, value: Any, *, key: Any = None, timestamp: int | None = None
    ) -> None:
        """Write a record to any topic. `timestamp` in ms; None is the event's.

        Encoded by the topic's declared types, or by what the value is where the app declares none.
        """
        self._send(topic, key, value, self.timestamp if timestamp is None else timestamp)

    def _draw(self) -> bytes:
        self._draws += 1
        # Key and time too: what a window gives when its inputs are silent has no record.
        where = (self.topic, self.partition, self.offset, self.key, self.timestamp)
        seed = "\0".join(map(repr, (self._name, *where, self._draws)))
        return blake2b(seed.encode(), digest_size=16).digest()
