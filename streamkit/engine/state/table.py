"""The rows of a table in one process: what its topic says. In memory, beyond a budget on disk.

    take(partition, columns, start, stop)    records of the topic, in order, each once
    get(key) or as_of(key, time)             what a join looks up
    mark(), settle()                         what was taken until now is about to be committed, is
    positions                                how far each partition was taken

The topic is the changelog: nothing is written to it. A backing holds what the topic said up to
some positions, so that a start reads it from there and not from its beginning.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections import deque
from typing import Any

import msgspec

from streamkit.engine.state.cache import Cache
from streamkit.errors import SerdeError
from streamkit.records import Columns
from streamkit.serde import Serde

_MEASURED = 1024
"""Of so many rows some are looked at, to know how much memory one takes."""


class Mark(msgspec.Struct, omit_defaults=True, rename={
    "positions": "p", "latest": "l", "trimmed": "t"
}):  # fmt: skip
    """What a backing has: by partition the position, and the latest time of its records; and from
    which time on it has all versions."""

    positions: dict[int, int] = {}
    latest: dict[int, int] = {}
    trimmed: int | None = None


read_mark = msgspec.json.Decoder(Mark).decode
_encode = msgspec.json.Encoder().encode


class TableStore(Cache, ABC):
    """See the module. What rows are kept under, those say that are made of it."""

    may_repeat = True
    """Whether records may be taken once more where some that come after them were."""

    def __init__(self, topic: str, value: Serde, *, at_once: bool) -> None:
        """`at_once`: what is taken may be left to the backing at once. Else once it is settled:
        then a process that begins at the last commit finds no row that was taken after it."""
        super().__init__(topic, value)
        self.topic = topic
        self.positions: dict[int, int] = {}
        self._at_once = at_once
        self._taken: dict[bytes, bytes | None] = {}  # not marked yet
        self._marks: deque[Mark] = deque()
        self._settled = Mark()
        self._unmeasured = 0

    def take(self, partition: int, columns: Columns, start: int, stop: int) -> None:
        """Take in records `start` to `stop`; those that it has are passed over.

        Raises SerdeError."""
        before, offsets = self.positions.get(partition, 0), columns.offsets
        if start < stop and offsets[start] < before:
            start = bisect_left(offsets, before, start, stop)
        if start >= stop:
            return
        self._take(partition, columns, start, stop)
        self.positions[partition] = offsets[stop - 1] + 1
        if self._at_once:
            self._settled = self._mark()
            self.position = sum(self.positions.values())
        self._unmeasured += stop - start
        if self._unmeasured >= _MEASURED or self._weight.is_guessed:
            self._unmeasured = 0
            self._measure(list(self._some_keys(columns, start, stop)))

    def mark(self) -> None:
        """What was taken until now is part of the next commit."""
        if self._taken:
            self._told.append(self._taken)
            self._marks.append(self._mark())
            self._taken = {}

    def settle(self) -> None:
        """What was marked first, of what is not settled yet, is committed."""
        if self._marks:
            self._settled = self._marks.popleft()
            self._pending.update(self._told.popleft())
            self.position = sum(self._settled.positions.values())

    def attach(self, backing: Any, memory: Any = None) -> None:
        super().attach(backing, memory)
        if backing is not None and backing.note:
            self._begin_with(read_mark(backing.note))

    # Inside.

    @abstractmethod
    def _take(self, partition: int, columns: Columns, start: int, stop: int) -> None:
        """Take in records that are new."""

    @abstractmethod
    def _some_keys(self, columns: Columns, start: int, stop: int) -> list[bytes]:
        """The keys under which some of these are kept."""

    def _begin_with(self, mark: Mark) -> None:
        self._settled = mark
        self.positions = dict(mark.positions)

    def _mark(self) -> Mark:
        return Mark(dict(self.positions))

    def _note(self) -> bytes:
        return _encode(self._settled)

    def _keep(self, key: bytes, cell: Any, data: bytes | None) -> None:
        """Have a cell under a key, and `data` behind; None: nothing."""
        if cell is not None or self._partial:
            if self._order is not None and (self._partial or key not in self._young):
                self._order.add(key)
            self._young[key] = cell
            self._fill_holes(key)
        else:
            self._young.pop(key, None)
            if self._order is not None:
                self._order.discard(key)
        if self._backing is not None:
            (self._pending if self._at_once else self._taken)[key] = data

    def _unwritten(self) -> dict[bytes, None]:
        return super()._unwritten() | dict.fromkeys(self._taken)

    def _row(self, data: bytes, partition: int, offset: int) -> Any:
        try:
            return self._serde.decode(data)
        except SerdeError as error:
            raise SerdeError(f"{self.topic}-{partition}@{offset}: value: {error}") from error

    def _keyless(self, partition: int, offset: int) -> SerdeError:
        return SerdeError(
            f"{self.topic}-{partition}@{offset}: a record without a key, in a table; "
            "write it with one, or read the topic with app.stream"
        )


class LatestRows(TableStore):
    """By key its record that was taken last. A null value is no row."""

    layout = "rows"

    def get(self, key: bytes) -> Any:
        """The key's row; None: it has none."""
        row = self._young.get(key)
        return self._find(key) if row is None and self._partial else row

    def _take(self, partition: int, columns: Columns, start: int, stop: int) -> None:
        keys, values, offsets = columns.keys, columns.values, columns.offsets
        for at in range(start, stop):
            key, data = keys[at], values[at]
            if key is None:
                raise self._keyless(partition, offsets[at])
            row = None if data is None else self._row(data, partition, offsets[at])
            self._keep(key, row, data)

    def _some_keys(self, columns: Columns, start: int, stop: int) -> list[bytes]:
        return [key for key in columns.keys[start : min(stop, start + 16)] if key is not None]
