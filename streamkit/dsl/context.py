"""What a function may ask for besides its event: its `Context`."""

from collections.abc import Callable
from datetime import datetime
from hashlib import blake2b
from typing import Any
from uuid import UUID

from streamkit.dsl.durations import Duration, milliseconds
from streamkit.dsl.instants import instant, moment
from streamkit.dsl.timers import Asked, Timer
from streamkit.errors import DataError, UsageError
from streamkit.records import Headers


class Context:
    """The event that is being processed, and what may be done beside returning a value.

    Everything here depends on the event alone, so that a replay does what was done live: the time
    is the event's, and random numbers are drawn from its coordinates. Each function of a task has
    one Context for all its events; use it while the function runs and do not keep it.
    """

    __slots__ = (
        "_asked",
        "_draws",
        "_name",
        "_part",
        "_root",
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

    def __init__(
        self,
        name: str,
        send: Callable[[str, Any, Any, int], None],
        asked: Asked | None = None,
    ) -> None:
        """Of the function `name`; `send` takes topic, key, value, timestamp.

        `asked` takes the timers it asks for; None: nothing would come of them.
        """
        self._name = name
        self._send = send
        self._asked = asked
        self._draws = 0
        self._part: int | None = None
        self._root = b""
        self.topic, self.partition, self.offset = "", -1, -1
        self.key, self.timestamp = None, -1
        self.at("", -1, -1, None, -1, ())

    def at(
        self,
        topic: str,
        partition: int,
        offset: int,
        key: Any,
        timestamp: int,
        headers: Headers,
        ordinal: int | None = None,
        part: int | None = None,
        root: bytes = b"",
    ) -> None:
        """Point to another event. The engine calls it before each function that has a Context.

        `root`: what the event goes back to, where that is not the record. `ordinal`: its number
        among those made of the record, where they may come by themselves, and more than once;
        `part`: that of the one which those are made of that come together.
        """
        if ordinal is not None:
            self._draws = 0 if root else ordinal << 20
        elif root:
            if root != self._root:
                self._draws = 0
        elif self._root or offset != self.offset or topic != self.topic or part != self._part:
            self._draws = (part or 0) << 20
        self._part, self._root = part, root
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.key = key
        self.timestamp = timestamp
        self.headers = headers

    def drawn(self, place: tuple[str, int, int, int | None]) -> int:
        """How many times it has, for the record of that topic, partition and offset, and the part
        of it; 0: it is at another, or draws by a root."""
        at = (self.topic, self.partition, self.offset, self._part)
        return self._draws if at == place and not self._root else 0

    def go_on(self, place: tuple[str, int, int, int | None], drawn: int) -> None:
        """Be at a record, for which it has drawn so often."""
        topic, partition, offset, part = place
        self.at(topic, partition, offset, None, -1, (), part=part)
        self._draws = drawn

    def at_timer(self, timer: Timer, root: bytes) -> None:
        """Point to a timer: it comes of no record, and its draws depend on itself alone, and, where
        its time was past as it was set, on the event that set it: both are in `root`."""
        self.at("", -1, -1, timer.key, timer.timestamp, (), root=root)
        self._draws = 0

    def now(self) -> datetime:
        """The event's time. The wall clock would give another answer in a replay."""
        return moment(self.timestamp)

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

    def timer(
        self,
        name: str | None = None,
        *,
        at: datetime | int | None = None,
        after: Duration | None = None,
        extend: bool = False,
    ) -> None:
        """Have the function of the step's `on_timer` called for this key, in event time.

        `at` is a moment (a datetime, or ms), `after` is counted from this event's time. A key has
        one timer of each name, and one without: setting it again moves it, with `extend` only to a
        later time. One whose time is past is due at once. In a function of a timer the next is at
        least 1 ms later.
        """
        if (at is None) == (after is None):
            raise UsageError(f"timer of {self._name}: say either at= or after=")
        if after is not None:
            if self.timestamp < 0:
                raise DataError(
                    "timer(after=...) counts from the event's time, but its record has no "
                    "timestamp; say at=, or where the time is: app.stream(..., time=...)"
                )
            when = instant(self.timestamp + milliseconds(after, "after"), "timer(after=...)")
        else:
            assert at is not None
            when = instant(at, "timer(at=...)")
        self._ask(name, when, extend)

    def cancel_timer(self, name: str | None = None) -> None:
        """Have this key's timer of that name not fire; nothing happens when there is none."""
        self._ask(name, None)

    def _ask(self, name: str | None, when: int | None, extend: bool = False) -> None:
        if self._asked is None:
            raise UsageError(
                f"{self._name} asks for a timer, but there is no function to call then: declare it "
                f"with @{self._name}.on_timer, if {self._name} is a step of @stream.process at "
                "which no event waits; if it is a coroutine, takes batches or has "
                "on_error=retry(...), have the step before or after it set the timer"
            )
        if name is not None and (not name or "\0" in name):
            raise UsageError(f"timer {name!r} of {self._name}: a name is text without \\0, or None")
        self._asked.append((name or "", when, extend))

    def _draw(self) -> bytes:
        self._draws += 1
        at = (self._root,) if self._root else (self.topic, self.partition, self.offset)
        where = (*at, self.key, self.timestamp)
        seed = "\0".join(map(repr, (self._name, *where, self._draws)))
        return blake2b(seed.encode(), digest_size=16).digest()
