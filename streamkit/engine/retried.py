"""Events that a step is given again: an input of its own, past all that is before the step."""

from collections.abc import Callable
from typing import Protocol

from streamkit.engine import letters
from streamkit.engine.cursor import Cursor
from streamkit.engine.inputs import Input
from streamkit.engine.letters import Letter
from streamkit.errors import DataError
from streamkit.records import Columns, TopicPartition


class Step(Protocol):
    """Who processes them."""

    def retried(
        self, name: bytes | None, data: bytes | None, stamp: int, letter: Letter, /
    ) -> None: ...


class RetryInput(Input):
    """They are processed as of the records they were made of, whatever comes from elsewhere; when
    that is, somebody has decided who had them retried."""

    __slots__ = ("_cursor", "_enter", "_step", "at")

    def __init__(
        self,
        partition: TopicPartition,
        step: Step,
        cursor: Cursor,
        enter: Callable[[str, int], None],
    ) -> None:
        """`enter` takes the task to another input."""
        super().__init__(partition, self._read)
        self.at: int | None = None
        self._step = step
        self._cursor = cursor
        self._enter = enter

    def _read(self, columns: Columns, start: int, stop: int) -> None:
        for row in range(start, stop):
            self.at = columns.offsets[row]
            letter = letters.read(() if columns.headers is None else columns.headers[row])
            if letter is None:
                self._cursor.offset = self.at
                raise DataError(
                    f"{self._cursor.coordinates}: it is no record that was set aside; only "
                    "`streamkit dlq` writes there"
                )
            self._enter(letter.topic, letter.partition)
            self._cursor.offset, self._cursor.again = letter.offset, True
            stamp = columns.timestamps[row]
            self._step.retried(columns.keys[row], columns.values[row], stamp, letter)
        self.at = None
