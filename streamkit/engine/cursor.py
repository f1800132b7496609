"""The record a task is at: what errors and Contexts are told by, and what is late."""

from collections.abc import Sequence
from itertools import chain
from typing import Any, NoReturn, TypeAlias

from streamkit.dsl.functions import Function
from streamkit.engine.failed import told
from streamkit.engine.hot.moment import Moment
from streamkit.errors import (
    DataError,
    FunctionError,
    InvalidRecord,
    RecordTooLarge,
    SerdeError,
)

Place: TypeAlias = tuple[str, int, int, int | None]
"""Topic, partition and offset, -1: at no record; and the `part`."""

_OF_PARTS = 1 << 62
_MOST = _OF_PARTS - 1


def paired(one: int, other: int) -> int:
    """Of two numbers one, which is that of no other two."""
    both = one + other
    return (both * (both + 1) // 2 + other) & _MOST


class Numbers:
    """Numbers the events that a step is given of one record from 0, those of each `part` alone."""

    __slots__ = ("_last", "_number", "_others")

    def __init__(self) -> None:
        self._last: Place | None = None
        self._number = -1
        self._others: dict[int | None, int] = {}
        """The last numbers of the record's other parts."""

    def next(self, place: Place) -> int:
        """That of an event which comes at that place."""
        last = self._last
        if place == last:
            self._number += 1
            return self._number
        if last is None or place[:3] != last[:3]:
            self._others.clear()
        else:
            self._others[last[3]] = self._number
        self._last = place
        self._number = self._others.pop(place[3], -1) + 1
        return self._number

    def forget(self) -> None:
        """The next event is the first of its record."""
        self._last = None

    def marks(self, at: Place) -> tuple[int, ...]:
        """What `begin_at` takes, if events came of that record: parts, -1 for None, and numbers."""
        last = self._last
        if last is None or last[:3] != at[:3]:
            return ()
        found = {last[3]: self._number, **self._others}
        numbers = ((-1 if part is None else part, number) for part, number in found.items())
        return tuple(chain.from_iterable(numbers))

    def begin_at(self, at: Place, marks: Sequence[int]) -> None:
        """As it was."""
        numbers = {
            None if part < 0 else part: number
            for part, number in zip(marks[::2], marks[1::2], strict=True)
        }
        if numbers:
            self._last, self._others = at, numbers
            self._number = self._others.pop(at[3], -1)


class Cursor(Moment):
    """Moves from record to record; one per task.

    `part`: which of the events that were made of the record is at hand, behind steps that events
    wait at, or that set them aside: there they come one by one, with others in between. None
    elsewhere.

    `again`: what is at hand had been set aside, here or at a step before, and came back.

    `rung`: what a record has brought about, or an answer, may be gone on with later. Who gives many
    results at once looks at it after each.
    """

    __slots__ = ("again", "part", "partition", "reported", "rung", "topic", "unread")

    def __init__(self) -> None:
        super().__init__()
        self.topic = ""
        self.partition = -1
        self.part: int | None = None
        self.again = False
        self.rung = False
        self.reported: Exception | None = None
        self.unread: Exception | None = None
        """The last error of a record that was not what was declared."""

    def enter(self, topic: str, partition: int) -> None:
        """Go to another input; `offset` is set with each of its records."""
        self.topic = topic
        self.partition = partition
        self.frontier = None
        self.offset = -1
        self.part = None
        self.again = False
        self.origin = self.root = b""

    def go_to(self, place: Place) -> None:
        """Go to another record."""
        topic, partition, offset, part = place
        self.enter(topic, partition)
        self.offset, self.part = offset, part

    @property
    def place(self) -> Place:
        return self.topic, self.partition, self.offset, self.part

    def numbered(self, count: int) -> int:
        """The number, among all events made of the record, of one before which `count` came to a
        step here."""
        # A step may be given some events of a record by way of such steps, and others past them.
        return count if self.part is None else _OF_PARTS | paired(self.part, count)

    @property
    def coordinates(self) -> str:
        if self.offset < 0:
            return "no record (its inputs were silent)"
        return f"{self.topic}-{self.partition}@{self.offset}"

    def fail(
        self, function: Function, key: Any, error: Exception, given: str | None = None
    ) -> NoReturn:
        """Raise FunctionError: a user's function raised `error`.

        `given` is what it was given where that is not the record at hand.

        An error that was told before passes unchanged: functions are nested, and a generator
        sees what the steps after it raise.
        """
        if error is self.reported:
            raise error
        self.reported = FunctionError(
            f"{function.described} raised {told(error)}; it was given the "
            f"{given or f'record {self.coordinates}'}, key {key!r}"
        )
        raise self.reported from error

    def unreadable(self, what: str, error: Exception) -> Exception:
        """The error to raise when a key or value of the record is not what was declared."""
        self.reported = self.unread = SerdeError(f"{self.coordinates}: {what}: {error}")
        return self.reported

    def outdated(self, what: str, error: Exception) -> Exception:
        """The error to raise when what was kept of the record is not what is declared by now: no
        fault of whatever is read meanwhile."""
        self.reported = SerdeError(f"{self.coordinates}: {what}: {error}")
        return self.reported

    def undated(self, error: Exception) -> Exception:
        """The error to raise when a record does not say its event time."""
        why = str(error) if isinstance(error, DataError) else told(error)
        self.unread = DataError(f"{self.coordinates}: event time: {why}")
        return self.unread

    def unwritable(self, what: str, error: Exception) -> Exception:
        """The error to raise when an output made of the record cannot be encoded."""
        self.reported = SerdeError(f"{what}: {error}; it was made of the record {self.coordinates}")
        return self.reported

    def refused(self, topic: str, error: RecordTooLarge | InvalidRecord) -> Exception:
        """The error to raise when a topic would not take an output made of the record."""
        self.reported = type(error)(
            f"record for {topic}: {error}; it was made of the record {self.coordinates}"
        )
        return self.reported

    def keyless(self, what: str) -> Exception:
        """The error to raise when something keyed meets an event without a key."""
        self.reported = DataError(
            f"{self.coordinates}: {what} needs a key, but the event has none; filter such events "
            "out before, or give them one with .by(...)"
        )
        return self.reported

    def timeless(self, what: str) -> Exception:
        """The error to raise when a window meets an event without a time."""
        self.reported = DataError(
            f"{self.coordinates}: {what} needs an event time, but the record has no timestamp; "
            "say where it is: app.stream(..., time=...)"
        )
        return self.reported
